// SPDX-License-Identifier: MIT
// Extended attributes, and the control attributes of the root.
#include <sys/xattr.h>

#include "alloc/device/open_path.h"
#include "fs/fuse/fuse_context.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {
namespace {

/// Replies as getxattr(2) and listxattr(2) want it; `size` 0 asks for the length.
void reply_value(fuse_req_t req, const void* data, size_t length, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, length);
  } else if (length > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, static_cast<const char*>(data), length);
  }
}

/// The endpoint that a control attribute of the root leads to, null if it is none.
const Control::Endpoint* endpoint_of(fuse_ino_t ino, std::string_view name) {
  if (ino != FUSE_ROOT_ID || !name.starts_with(kControlPrefix)) return nullptr;
  return Control::find(name.substr(kControlPrefix.size()));
}

void getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) {
  FuseContext& context = fuse_context_of(req);
  if (const auto* endpoint = endpoint_of(ino, name)) {
    leave_out_of_load();
    if (context.control.level() == Control::Level::off) return void(fuse_reply_err(req, ENODATA));
    const auto text = context.control.get(endpoint->topic, calling_process_of(req));
    if (!text) return reply_error(req, text.error());
    // A caller asks for the length first, and the text may grow until it asks for the text.
    const size_t slack = size == 0 ? 256 : 0;
    return reply_value(req, text.value().data(), text.value().size() + slack, size);
  }
  if (std::string_view(name) == alloc::kServedAttribute) {
    const std::string number = alloc::served_attribute();
    return reply_value(req, number.data(), number.size(), size);
  }
  const auto value = context.filesystem.get_xattr(InodeNumber(ino), name);
  if (!value) return reply_error(req, value.error());
  reply_value(req, value.value().data(), value.value().size(), size);
}

void setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
              int flags) {
  FuseContext& context = fuse_context_of(req);
  if (const auto* endpoint = endpoint_of(ino, name)) {
    leave_out_of_load();
    return reply_done(req,
                      context.control.set(endpoint->topic, {value, size}, calling_process_of(req)));
  }
  constexpr int kBoth = XATTR_CREATE | XATTR_REPLACE;
  const XattrMode mode = (flags & kBoth) == kBoth  ? XattrMode::neither
                         : (flags & XATTR_CREATE)  ? XattrMode::create
                         : (flags & XATTR_REPLACE) ? XattrMode::replace
                                                   : XattrMode::any;
  const ConstBytes bytes(reinterpret_cast<const std::byte*>(value), size);
  const bool kill_sgid = (static_cast<uint32_t>(flags) & kSetxattrKillSgid) != 0;
  reply_done(req, context.filesystem.set_xattr(InodeNumber(ino), name, bytes, mode, kill_sgid));
}

void listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  const auto names = filesystem_of(req).list_xattrs(InodeNumber(ino));
  if (!names) return reply_error(req, names.error());
  const bool is_root = fuse_req_ctx(req)->uid == 0;
  std::string list;
  for (const std::string& name : names.value()) {
    if (!is_root && name.starts_with("trusted.")) continue;  // as filesystems in the kernel do
    list.append(name).push_back('\0');
  }
  reply_value(req, list.data(), list.size(), size);
}

void removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) {
  if (endpoint_of(ino, name) != nullptr) return void(fuse_reply_err(req, EPERM));
  reply_done(req, filesystem_of(req).remove_xattr(InodeNumber(ino), name));
}

}  // namespace

void add_xattr_operations(fuse_lowlevel_ops& table) {
  table.getxattr = getxattr;
  table.setxattr = setxattr;
  table.listxattr = listxattr;
  table.removexattr = removexattr;
}

}  // namespace moltfs::fs::fuse
