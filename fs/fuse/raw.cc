// SPDX-License-Identifier: MIT
// Requests that libfuse does not know, answered in the kernel's own structures.
#include "fs/fuse/raw.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <optional>

#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {
namespace {

constexpr uint64_t kCacheWholeSeconds = static_cast<uint64_t>(kCacheSeconds);

uint64_t whole_attribute_seconds(FuseContext& context, uint64_t ino) {
  return static_cast<uint64_t>(context.attribute_seconds(ino));
}

/// What FUSE_INIT offers, among what only this file can take.
uint32_t offered_flags(std::span<const std::byte> request) {
  const auto in = argument_of<fuse_init_in>(request);
  return in ? in->flags & (kInitHandleKillprivV2 | kInitSetxattrExt) : 0;
}

/// False if the kernel did not take the answer.
bool send(int fd, uint64_t unique, int error, const void* data, size_t size) {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + size);
  header.error = -error;
  header.unique = unique;
  const iovec parts[2] = {{&header, sizeof header}, {const_cast<void*>(data), size}};
  return writev(fd, parts, size == 0 ? 1 : 2) >= 0;
}

fuse_attr to_wire(const struct stat& s) {
  fuse_attr attr{};
  attr.ino = s.st_ino;
  attr.size = static_cast<uint64_t>(s.st_size);
  attr.blocks = static_cast<uint64_t>(s.st_blocks);
  attr.atime = static_cast<uint64_t>(s.st_atim.tv_sec);
  attr.mtime = static_cast<uint64_t>(s.st_mtim.tv_sec);
  attr.ctime = static_cast<uint64_t>(s.st_ctim.tv_sec);
  attr.atimensec = static_cast<uint32_t>(s.st_atim.tv_nsec);
  attr.mtimensec = static_cast<uint32_t>(s.st_mtim.tv_nsec);
  attr.ctimensec = static_cast<uint32_t>(s.st_ctim.tv_nsec);
  attr.mode = s.st_mode;
  attr.nlink = static_cast<uint32_t>(s.st_nlink);
  attr.uid = s.st_uid;
  attr.gid = s.st_gid;
  attr.blksize = static_cast<uint32_t>(s.st_blksize);
  return attr;
}

void answer_tmpfile(FuseContext& context, const fuse_in_header& header,
                    std::span<const std::byte> request, int fd) {
  const auto in = argument_of<fuse_create_in>(request);
  if (!in) return void(send(fd, header.unique, EINVAL, nullptr, 0));
  const Caller caller{header.uid, header.gid, in->umask};
  const auto made = context.filesystem.make_unnamed(InodeNumber(header.nodeid),
                                                    (in->mode & 07777) | S_IFREG, caller);
  if (!made) return void(send(fd, header.unique, made.error().to_errno(), nullptr, 0));
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out{};
  const Attributes& attributes = made.value();
  out.entry.nodeid = attributes.ino.value;
  out.entry.generation = attributes.generation;
  const int flags = static_cast<int>(in->flags);
  context.write_opens.opened(attributes.ino.value, flags);
  out.entry.entry_valid = kCacheWholeSeconds;
  out.entry.attr_valid = whole_attribute_seconds(context, attributes.ino.value);
  out.entry.attr = to_wire(to_stat(attributes));
  out.open.open_flags = FOPEN_KEEP_CACHE;
  out.open.fh = opens_for_writing(flags) ? kWriter : kReader;
  if (!send(fd, header.unique, 0, &out, sizeof out)) {
    context.write_opens.released(attributes.ino.value, flags);
    context.filesystem.forget(attributes.ino, 1);
  }
  context.low_space.attributes_are_cached(attributes.ino.value);
}

StatxTime to_wire(const Time& time) {
  return {time.seconds, time.nanoseconds, 0};
}

void answer_statx(FuseContext& context, const fuse_in_header& header, int fd) {
  const auto result = context.filesystem.attributes(InodeNumber(header.nodeid));
  if (!result) return void(send(fd, header.unique, result.error().to_errno(), nullptr, 0));
  const Attributes& a = result.value();
  const struct stat s = to_stat(a);
  StatxOut out{};
  out.valid_seconds = whole_attribute_seconds(context, a.ino.value);
  out.mask = STATX_BASIC_STATS | STATX_BTIME;
  out.block_size = kBlockSize;
  out.links = a.links;
  out.uid = a.uid;
  out.gid = a.gid;
  out.mode = static_cast<uint16_t>(a.mode);
  out.ino = a.ino.value;
  out.size = a.size;
  out.blocks = static_cast<uint64_t>(s.st_blocks);
  out.atime = to_wire(a.atime);
  out.btime = to_wire(a.btime);
  out.ctime = to_wire(a.ctime);
  out.mtime = to_wire(a.mtime);
  out.rdev_major = static_cast<uint32_t>(a.device >> 32);
  out.rdev_minor = static_cast<uint32_t>(a.device);
  send(fd, header.unique, 0, &out, sizeof out);
}

void answer_syncfs(FuseContext& context, const fuse_in_header& header, int fd) {
  const auto result = context.filesystem.sync();
  send(fd, header.unique, result ? 0 : result.error().to_errno(), nullptr, 0);
}

}  // namespace

bool answer_raw(FuseContext& context, std::span<const std::byte> request, int fd) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof header);
  switch (header.opcode) {
    case FUSE_INTERRUPT:
      return true;  // requests are answered when they are done; this one wants no answer
    case kOpTmpfile:
      if (is_control_inode(header.nodeid)) return false;
      answer_tmpfile(context, header, request, fd);
      return true;
    case kOpStatx:
      if (is_control_inode(header.nodeid)) return false;
      answer_statx(context, header, fd);
      return true;
    case kOpSyncfs:
      answer_syncfs(context, header, fd);
      return true;
    case FUSE_INIT:
      context.setxattr_is_extended = (offered_flags(request) & kInitSetxattrExt) != 0;
      return false;
    default:
      return false;
  }
}

std::span<std::byte> without_extension(const FuseContext& context, std::span<std::byte> request) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode != FUSE_SETXATTR || !context.setxattr_is_extended) return request;
  auto in = argument_of<SetxattrIn>(request);
  if (!in) return request;
  if ((in->setxattr_flags & kSetxattrAclKillSgid) != 0) in->flags |= kSetxattrKillSgid;
  header.len -= kSetxattrExtensionBytes;
  request = request.subspan(kSetxattrExtensionBytes);
  std::memcpy(request.data(), &header, sizeof header);
  std::memcpy(request.data() + sizeof header, &*in, sizeof *in - kSetxattrExtensionBytes);
  return request;
}

ssize_t send_reply(int fd, const iovec* parts, int count, std::span<const std::byte> request) {
  fuse_in_header header{};
  if (request.size() >= sizeof header) std::memcpy(&header, request.data(), sizeof header);
  const bool is_init = header.opcode == FUSE_INIT && count == 2 && offered_flags(request) != 0 &&
                       parts[1].iov_len >= offsetof(fuse_init_out, max_background);
  if (!is_init) return writev(fd, parts, count);
  fuse_init_out out{};
  const size_t size = std::min(parts[1].iov_len, sizeof out);
  std::memcpy(&out, parts[1].iov_base, size);
  out.flags |= offered_flags(request);
  const iovec changed[2] = {parts[0], {&out, size}};
  return writev(fd, changed, 2);
}

}  // namespace moltfs::fs::fuse
