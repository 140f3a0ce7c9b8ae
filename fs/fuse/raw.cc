// SPDX-License-Identifier: MIT
#include "fs/fuse/raw.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <optional>

#include "fs/fuse/wire.h"
#include "fs/mount/failed_writes.h"

namespace moltfs::fs::fuse {
namespace {

/// What the kernel offers in FUSE_INIT of the capabilities that libfuse lacks.
uint32_t offered_flags(std::span<const std::byte> request) {
  const auto in = argument_of<fuse_init_in>(request);
  return in ? in->flags & (kInitHandleKillprivV2 | kInitSetxattrExt) : 0;
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

void tmpfile(const RawRequest& request) {
  FuseContext& context = request.context;
  const auto in = argument_of<fuse_create_in>(request.bytes);
  if (!in) return request.reply_error(EINVAL);
  const Caller caller{request.header.uid, request.header.gid, in->umask};
  const auto made = context.filesystem.make_unnamed(InodeNumber(request.header.nodeid),
                                                    (in->mode & 07777) | S_IFREG, caller);
  if (!made) return request.reply_error(made.error().to_errno());
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out{};
  const Attributes& attributes = made.value();
  const uint64_t ino = attributes.ino.value;
  const int flags = static_cast<int>(in->flags);
  context.write_opens.opened(ino, flags);
  out.entry.nodeid = ino;
  out.entry.generation = attributes.generation;
  out.entry.entry_valid = static_cast<uint64_t>(kCacheSeconds);
  out.entry.attr_valid = static_cast<uint64_t>(context.attribute_seconds(ino));
  out.entry.attr = to_wire(to_stat(attributes));
  out.open.open_flags = FOPEN_KEEP_CACHE;
  out.open.fh = new_handle(context, flags);
  if (!request.reply(&out, sizeof out)) {
    context.write_opens.released(ino, flags);
    context.filesystem.forget(attributes.ino, 1);
  }
  context.low_space.attributes_are_cached(ino);
}

StatxTime to_wire(const Time& time) {
  return {time.seconds, time.nanoseconds, 0};
}
StatxTime to_wire(const timespec& time) {
  return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec), 0};
}

void statx(const RawRequest& request) {
  const auto result = request.context.filesystem.attributes(InodeNumber(request.header.nodeid));
  if (!result) return request.reply_error(result.error().to_errno());
  const Attributes& a = result.value();
  request.reply_statx(to_stat(a), &a.btime, request.context.attribute_seconds(a.ino.value));
}

void syncfs(const RawRequest& request) {
  const auto result = request.context.filesystem.sync();
  request.reply_error(result ? 0 : result.error().to_errno());
}

void count_failure(std::span<const std::byte> request, int error) {
  fuse_in_header header{};
  if (error == 0 || request.size() < sizeof header) return;
  std::memcpy(&header, request.data(), sizeof header);
  const auto in = argument_of<fuse_write_in>(request);
  if (header.opcode == FUSE_WRITE && in && (in->write_flags & FUSE_WRITE_CACHE) != 0) {
    ++failed_cached_writes;
  }
}

}  // namespace

bool RawRequest::reply(const void* data, size_t size) const {
  fuse_out_header out{};
  out.len = static_cast<uint32_t>(sizeof out + size);
  out.unique = header.unique;
  const iovec parts[2] = {{&out, sizeof out}, {const_cast<void*>(data), size}};
  set_replied(true);
  return ::writev(fd, parts, 2) >= 0;
}

void RawRequest::reply_error(int error) const {
  fuse_out_header out{};
  out.len = sizeof out;
  out.error = -error;
  out.unique = header.unique;
  const iovec part{&out, sizeof out};
  set_replied(true);
  count_failure(bytes, error);
  (void)!::writev(fd, &part, 1);  // the kernel may have ended the connection
}

void RawRequest::reply_statx(const struct stat& s, const Time* birth, double valid_seconds) const {
  StatxOut out{};
  out.valid_seconds = static_cast<uint64_t>(valid_seconds);
  out.mask = STATX_BASIC_STATS;
  out.block_size = kBlockSize;
  out.links = static_cast<uint32_t>(s.st_nlink);
  out.uid = s.st_uid;
  out.gid = s.st_gid;
  out.mode = static_cast<uint16_t>(s.st_mode);
  out.ino = s.st_ino;
  out.size = static_cast<uint64_t>(s.st_size);
  out.blocks = static_cast<uint64_t>(s.st_blocks);
  out.atime = to_wire(s.st_atim);
  out.ctime = to_wire(s.st_ctim);
  out.mtime = to_wire(s.st_mtim);
  if (birth != nullptr) {
    out.mask |= STATX_BTIME;
    out.btime = to_wire(*birth);
  }
  out.rdev_major = major(s.st_rdev);
  out.rdev_minor = minor(s.st_rdev);
  reply(&out, sizeof out);
}

void add_raw_operations(RawOperations& table) {
  table.tmpfile = tmpfile;
  table.statx = statx;
}

bool answer_raw(FuseContext& context, std::span<const std::byte> bytes, int fd) {
  RawRequest request{context, {}, bytes, fd};
  std::memcpy(&request.header, bytes.data(), sizeof request.header);
  const RawOperations& operations = raw_operations_of(context, request.header.nodeid);
  const auto call = [&](void (*operation)(const RawRequest&)) {
    if (operation != nullptr) {
      answer_without_memory([&] { operation(request); },
                            [&](int error) { request.reply_error(error); });
    } else {
      request.reply_error(EPERM);
    }
    return true;
  };
  switch (request.header.opcode) {
    case FUSE_INTERRUPT:
      return true;  // needs no reply: a request is answered when it is done
    case kOpTmpfile:
      return call(operations.tmpfile);
    case kOpStatx:
      return call(operations.statx);
    case kOpSyncfs:
      return call(syncfs);
    case FUSE_INIT:
      context.setxattr_is_extended = (offered_flags(bytes) & kInitSetxattrExt) != 0;
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
  fuse_out_header head{};
  if (count == 1 && parts[0].iov_len == sizeof head) {
    std::memcpy(&head, parts[0].iov_base, sizeof head);
    count_failure(request, head.error);
  }
  const bool is_init = header.opcode == FUSE_INIT && count == 2 && offered_flags(request) != 0 &&
                       parts[1].iov_len >= offsetof(fuse_init_out, max_background);
  if (!is_init) return ::writev(fd, parts, count);
  fuse_init_out out{};
  const size_t size = std::min(parts[1].iov_len, sizeof out);
  std::memcpy(&out, parts[1].iov_base, size);
  out.flags |= offered_flags(request);
  const iovec changed[2] = {parts[0], {&out, size}};
  return ::writev(fd, changed, 2);
}

}  // namespace moltfs::fs::fuse
