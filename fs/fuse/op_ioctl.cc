// SPDX-License-Identifier: MIT
// ioctls: the flags of chattr(1), the inode's generation, the volume's label, trimming, and the
// commands of the program moltfs. The kernel passes on what it does not answer itself, with as many
// bytes in and out as the command's number says. It has checked whether the caller may set flags.
// Unknown commands fail with ENOTTY.
#include <linux/fs.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "alloc/base/blocking.h"
#include "alloc/volume/trim.h"
#include "fs/fuse/fuse_context.h"
#include "fs/fuse/wire.h"
#include "fs/mount/control_call.h"

namespace moltfs::fs::fuse {
namespace {

struct Flag {
  uint32_t ours, kernels, extended;  // FS_*_FL, FS_XFLAG_*
};
constexpr Flag kFlags[] = {
    {kInodeImmutable, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    {kInodeAppendOnly, FS_APPEND_FL, FS_XFLAG_APPEND},
    {kInodeNoDump, FS_NODUMP_FL, FS_XFLAG_NODUMP},
    {kInodeNoAtime, FS_NOATIME_FL, FS_XFLAG_NOATIME},
    {kInodeDirSync, FS_DIRSYNC_FL, 0},
};

/// Our flags that one of the two interfaces has.
uint32_t expressible(uint32_t Flag::*kind) {
  uint32_t ours = 0;
  for (const Flag& flag : kFlags) {
    if (flag.*kind != 0) ours |= flag.ours;
  }
  return ours;
}

uint32_t translated(uint32_t flags, uint32_t Flag::*from, uint32_t Flag::*to) {
  uint32_t out = 0;
  for (const Flag& flag : kFlags) {
    if ((flags & flag.*from) != 0) out |= flag.*to;
  }
  return out;
}

/// One request: the bytes that came with it, and how many may go back.
struct Call {
  fuse_req_t req;
  fuse_ino_t ino;
  ConstBytes in;
  size_t out_bytes;

  template <class T>
  std::optional<T> argument() const {
    T value;
    if (in.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, in.data(), sizeof value);
    return value;
  }
  void reply(const void* data, size_t size) const {
    fuse_reply_ioctl(req, 0, data, std::min(size, out_bytes));
  }
};

void get_flags(const Call& call, bool extended) {
  const auto attributes = filesystem_of(call.req).attributes(InodeNumber(call.ino));
  if (!attributes) return reply_error(call.req, attributes.error());
  const uint32_t ours = attributes.value().flags;
  if (!extended) {
    const uint32_t flags = translated(ours, &Flag::ours, &Flag::kernels);
    return call.reply(&flags, sizeof flags);
  }
  fsxattr out{};
  out.fsx_xflags = translated(ours, &Flag::ours, &Flag::extended);
  call.reply(&out, sizeof out);
}

void set_flags(const Call& call, uint32_t flags, uint32_t Flag::*kind) {
  FuseContext& context = fuse_context_of(call.req);
  const uint32_t ours = translated(flags, kind, &Flag::ours);
  if (translated(ours, &Flag::ours, kind) != flags) {
    return void(fuse_reply_err(call.req, EOPNOTSUPP));
  }
  const auto set = context.filesystem.set_flags(InodeNumber(call.ino), ours, expressible(kind));
  if (!set) return reply_error(call.req, set.error());
  context.kernel_cache.forget_attributes(call.ino);
  fuse_reply_ioctl(call.req, 0, nullptr, 0);
}

void set_plain_flags(const Call& call) {
  const auto flags = call.argument<uint32_t>();
  if (!flags) return void(fuse_reply_err(call.req, EINVAL));
  set_flags(call, *flags, &Flag::kernels);
}

void set_extended_flags(const Call& call) {
  const auto in = call.argument<fsxattr>();
  if (!in) return void(fuse_reply_err(call.req, EINVAL));
  // There are no projects and no hints about extent sizes here.
  if (in->fsx_projid != 0 || in->fsx_extsize != 0 || in->fsx_cowextsize != 0) {
    return void(fuse_reply_err(call.req, EOPNOTSUPP));
  }
  set_flags(call, in->fsx_xflags, &Flag::extended);
}

/// 32 bits, although the command's number says `long`: other filesystems do the same, and programs
/// have room for no more.
void get_version(const Call& call) {
  const auto attributes = filesystem_of(call.req).attributes(InodeNumber(call.ino));
  if (!attributes) return reply_error(call.req, attributes.error());
  const auto generation = static_cast<uint32_t>(attributes.value().generation);
  call.reply(&generation, sizeof generation);
}

void trim(const Call& call) {
  FuseContext& context = fuse_context_of(call.req);
  const auto in = call.argument<fstrim_range>();
  if (!in) return void(fuse_reply_err(call.req, EINVAL));
  const auto allowed = context.control.check_may_command(calling_process_of(call.req));
  if (!allowed) return reply_error(call.req, allowed.error());
  announce_blocking();
  const auto trimmed = alloc::trim(context.volume, {in->start, in->len, in->minlen});
  if (!trimmed) return reply_error(call.req, trimmed.error());
  const fstrim_range out{in->start, trimmed.value(), in->minlen};
  call.reply(&out, sizeof out);
}

void get_label(const Call& call) {
  Control& control = fuse_context_of(call.req).control;
  const auto label = control.get(Control::Topic::label, calling_process_of(call.req));
  if (!label) return reply_error(call.req, label.error());
  char out[FSLABEL_MAX] = {};
  std::memcpy(out, label.value().data(), std::min(label.value().size(), sizeof out - 1));
  call.reply(out, sizeof out);
}

void set_label(const Call& call) {
  if (call.in.empty()) return void(fuse_reply_err(call.req, EINVAL));
  const char* text = reinterpret_cast<const char*>(call.in.data());
  const size_t length = strnlen(text, call.in.size());
  if (length == call.in.size()) return void(fuse_reply_err(call.req, EINVAL));
  const auto set = fuse_context_of(call.req).control.set(Control::Topic::label, {text, length},
                                                         calling_process_of(call.req));
  if (!set) return reply_error(call.req, set.error());
  fuse_reply_ioctl(call.req, 0, nullptr, 0);
}

/// A command of the program moltfs (fs/mount/control_call.h).
void control_call(const Call& call) {
  auto in = call.argument<ControlCall>();
  if (call.ino != FUSE_ROOT_ID) return void(fuse_reply_err(call.req, ENOTTY));
  if (!in || in->text_bytes > sizeof in->text) return void(fuse_reply_err(call.req, EINVAL));
  leave_out_of_load();
  const std::string_view name(in->endpoint, strnlen(in->endpoint, sizeof in->endpoint));
  const Control::Endpoint* const endpoint = Control::find(name);
  if (endpoint == nullptr) return void(fuse_reply_err(call.req, EINVAL));
  Control& control = fuse_context_of(call.req).control;
  const CallingProcess caller = calling_process_of(call.req);
  std::string text;
  int err = 0;
  if (in->is_set != 0) {
    const auto set = control.set(endpoint->topic, {in->text, in->text_bytes}, caller,
                                 Control::Interface::ioctl, in->socket);
    if (!set) text = set.error().message(), err = set.error().to_errno();
  } else {
    const auto answer = control.get(endpoint->topic, caller);
    text = answer ? answer.value() : answer.error().message();
    err = answer ? 0 : answer.error().to_errno();
    if (answer && text.size() > sizeof in->text) err = ERANGE;
  }
  ControlCall out{};
  out.text_bytes = static_cast<uint32_t>(std::min(text.size(), sizeof out.text));
  std::memcpy(out.text, text.data(), out.text_bytes);
  fuse_reply_ioctl(call.req, -err, &out, std::min(sizeof out, call.out_bytes));
}

void ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void*, fuse_file_info*, unsigned,
           const void* in, size_t in_bytes, size_t out_bytes) {
  constexpr size_t kHeaderBytes = sizeof(fuse_in_header) + sizeof(fuse_ioctl_in);
  const size_t request_bytes = current_request().size();
  const size_t received = request_bytes - std::min(request_bytes, kHeaderBytes);
  const Call call{req, ino,
                  ConstBytes(static_cast<const std::byte*>(in), std::min(in_bytes, received)),
                  out_bytes};
  switch (command) {
    case FS_IOC_GETFLAGS:
      return get_flags(call, false);
    case FS_IOC_FSGETXATTR:
      return get_flags(call, true);
    case FS_IOC_SETFLAGS:
      return set_plain_flags(call);
    case FS_IOC_FSSETXATTR:
      return set_extended_flags(call);
    case FS_IOC_GETVERSION:
    case FS_IOC32_GETVERSION:
      return get_version(call);
    case FITRIM:
      return trim(call);
    case kControlCall:
      return control_call(call);
    case FS_IOC_GETFSLABEL:
      return get_label(call);
    case FS_IOC_SETFSLABEL:
      return set_label(call);
    default:
      fuse_reply_err(req, ENOTTY);
  }
}

}  // namespace

void add_ioctl_operations(fuse_lowlevel_ops& table) {
  table.ioctl = ioctl;
}

}  // namespace moltfs::fs::fuse
