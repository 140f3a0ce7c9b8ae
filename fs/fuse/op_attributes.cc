// SPDX-License-Identifier: MIT
// Attributes of inodes and of the whole filesystem.
#include <sys/statvfs.h>
#include <optional>

#include "fs/attributes.h"
#include "fs/fuse/fuse_context.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {
namespace {

Time to_time(const timespec& t) {
  return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
}

/// On the deferred thread.
void reserve_and_reply(fuse_req_t req, fuse_ino_t ino, LowSpace& low_space) {
  if (!low_space.reclaim_and_reserve(ino, fuse_req_ctx(req)->pid)) {
    return void(fuse_reply_err(req, ENOSPC));
  }
  reply_attributes(req, filesystem_of(req).attributes(InodeNumber(ino)));
}

/// With a handle for writing it may be a buffered write that asks for space (low_space.h).
void getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (fi != nullptr && is_writer(fi->fh)) {
    LowSpace& low_space = fuse_context_of(req).low_space;
    if (!low_space.reserve(ino, fuse_req_ctx(req)->pid)) {
      return defer(req, [=, &low_space] { reserve_and_reply(req, ino, low_space); });
    }
  }
  const auto attributes = filesystem_of(req).attributes(InodeNumber(ino));
  if (fi == nullptr && attributes && !S_ISDIR(attributes.value().mode)) {
    fuse_context_of(req).readdirplus.file_attributes_read(fuse_req_ctx(req)->pid);
  }
  reply_attributes(req, attributes);
}

bool is_regular(fuse_req_t req, fuse_ino_t ino) {
  const auto attributes = filesystem_of(req).attributes(InodeNumber(ino));
  return attributes && S_ISREG(attributes.value().mode);
}

/// True if the request must clear set-id bits. Either the kernel says so in a flag (which libfuse
/// drops), or the request changes nothing else. Then it is a chown(2) to the same owner, or it
/// precedes fallocate(2), copy_file_range(2) or a buffered write. For regular files only a chown
/// sets ctime. The others, if root makes them, keep the bits: only a capability had to go, and the
/// kernel has removed that itself.
bool kills_suidgid(fuse_req_t req, fuse_ino_t ino) {
  const auto in = argument_of<fuse_setattr_in>(current_request());
  if (!in) return false;
  if ((in->valid & kSetattrKillSuidgid) != 0) return true;
  if ((in->valid & ~uint32_t{FATTR_CTIME | FATTR_FH | FATTR_LOCKOWNER}) != 0) return false;
  const bool is_chown = (in->valid & FATTR_CTIME) != 0;
  return is_chown || fuse_req_ctx(req)->uid != 0 || !is_regular(req, ino);
}

/// False: a chown(2) that names neither owner nor group would clear set-id bits, and the caller is
/// not the owner.
bool may_clear_set_id(fuse_req_t req, fuse_ino_t ino, int to_set, bool outside_group) {
  const auto attributes = filesystem_of(req).attributes(InodeNumber(ino));
  if (!attributes) return true;  // the change itself will fail
  const Attributes& a = attributes.value();
  const uid_t uid = fuse_req_ctx(req)->uid;
  const bool is_chown = (to_set & ~FUSE_SET_ATTR_CTIME) == 0 &&
                        ((to_set & FUSE_SET_ATTR_CTIME) != 0 || !S_ISREG(a.mode));
  return !is_chown || uid == 0 || uid == a.uid || S_ISDIR(a.mode) ||
         mode_after_kill_suidgid(a.mode, outside_group) == a.mode;
}

/// Only times: the kernel sends them late, after cached writes.
bool is_from_cache(fuse_req_t req, fuse_ino_t ino, int to_set) {
  return (to_set & ~FUSE_SET_ATTR_CTIME) == FUSE_SET_ATTR_MTIME &&
         fuse_context_of(req).write_opens.is_open(ino);
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
  set.from_cache = is_from_cache(req, ino, to_set);
  set.kill_suidgid = changes_owner || kills_suidgid(req, ino);
  set.outside_group = set.kill_suidgid && fuse_req_ctx(req)->uid != 0 && is_outside_group(req, ino);
  if (set.kill_suidgid && !may_clear_set_id(req, ino, to_set, set.outside_group)) {
    return void(fuse_reply_err(req, EPERM));
  }
  FuseContext& context = fuse_context_of(req);
  const auto done = [&] {
    std::optional<WriteOpens::SizeChange> change;
    if (set.size) change.emplace(context.write_opens, ino);
    return context.filesystem.set_attributes(InodeNumber(ino), set);
  }();
  reply_attributes(req, done);
  context.low_space.attributes_are_cached(ino);
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
