// SPDX-License-Identifier: MIT
// Attributes of inodes and of the whole filesystem.
#include <sys/statvfs.h>

#include <cstring>

#include "fs/fuse/front.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {
namespace {

Time to_time(const timespec& t) {
  return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
}

void reply_attributes(fuse_req_t req, const Result<Attributes>& result) {
  if (!result) return reply_error(req, result.error());
  const struct stat s = to_stat(result.value());
  fuse_reply_attr(req, &s, kCacheSeconds);
}

void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  reply_attributes(req, filesystem_of(req).attributes(InodeNumber(ino)));
}

/// True if the request asks to clear set-id bits (the kernel decides by who writes). libfuse
/// drops that flag.
bool kills_suidgid() {
  const auto request = current_request();
  if (request.size() < sizeof(fuse_in_header) + sizeof(fuse_setattr_in)) return false;
  fuse_setattr_in in;
  std::memcpy(&in, request.data() + sizeof(fuse_in_header), sizeof in);
  return (in.valid & kSetattrKillSuidgid) != 0;
}

void setattr(fuse_req_t req, fuse_ino_t ino, struct stat* attr, int to_set, fuse_file_info*) {
  SetAttributes set;
  if (to_set & FUSE_SET_ATTR_MODE) set.mode = attr->st_mode & 07777;
  if (to_set & FUSE_SET_ATTR_UID) set.uid = attr->st_uid;
  if (to_set & FUSE_SET_ATTR_GID) set.gid = attr->st_gid;
  if (to_set & FUSE_SET_ATTR_SIZE) set.size = static_cast<uint64_t>(attr->st_size);
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
    set.atime_now = true;
  } else if (to_set & FUSE_SET_ATTR_ATIME) {
    set.atime = to_time(attr->st_atim);
  }
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
    set.mtime_now = true;
  } else if (to_set & FUSE_SET_ATTR_MTIME) {
    set.mtime = to_time(attr->st_mtim);
  }
  if (to_set & FUSE_SET_ATTR_CTIME) set.ctime = to_time(attr->st_ctim);
  const bool changes_owner = (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0;
  set.kill_suidgid = changes_owner || kills_suidgid();
  reply_attributes(req, filesystem_of(req).set_attributes(InodeNumber(ino), set));
}

void statfs(fuse_req_t req, fuse_ino_t) {
  const auto statistics = filesystem_of(req).statistics();
  if (!statistics) return reply_error(req, statistics.error());
  const Statistics& s = statistics.value();
  struct statvfs out {};
  out.f_bsize = out.f_frsize = s.block_bytes;
  out.f_blocks = s.total_bytes / s.block_bytes;
  out.f_bfree = s.free_bytes / s.block_bytes;
  out.f_bavail = s.available_bytes / s.block_bytes;
  out.f_files = s.inode_count;
  out.f_ffree = out.f_favail = s.free_inode_count;
  out.f_namemax = kMaxNameBytes;
  fuse_reply_statfs(req, &out);
}

}  // namespace

void add_attribute_operations(fuse_lowlevel_ops& table) {
  table.getattr = getattr;
  table.setattr = setattr;
  table.statfs = statfs;
}

}  // namespace moltfs::fs::fuse
