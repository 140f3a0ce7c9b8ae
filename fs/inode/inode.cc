// SPDX-License-Identifier: MIT
// Inode items: encoding, checking, loading and storing within a critical section.
#include "fs/inode/inode.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "alloc/base/load.h"

namespace moltfs::fs {
namespace {

constexpr uint32_t kNanosecondsPerSecond = 1'000'000'000;

Time decode_time(const TimeOnDisk& t) {
  return {t.seconds, t.nanoseconds};
}

TimeOnDisk encode_time(const Time& t) {
  TimeOnDisk disk;
  disk.seconds = t.seconds;
  disk.nanoseconds = t.nanoseconds;
  return disk;
}

bool known_type(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

/// Names the impossible field; null if all are valid.
const char* fault_of(const Inode& inode) {
  if (!is_inode_number(inode.ino)) return "number";
  if (!known_type(inode.mode) || (inode.mode & ~(S_IFMT | 07777u)) != 0) return "mode";
  if (inode.size > kMaxFileBytes) return "size";
  if (inode.allocated_bytes % kBlockSize != 0 || inode.allocated_bytes > kMaxFileBytes) {
    return "allocated bytes";
  }
  if ((inode.flags & ~(kInodeInline | kInodeSettable)) != 0) return "flags";
  if (inode.is_inline() && inode.is_regular() && inode.size > kMaxInlineBytes) return "inline size";
  if (inode.is_symlink() && inode.size > kMaxSymlinkBytes) return "symlink size";
  if (inode.is_directory() != (inode.parent.value != 0)) return "parent";
  if (inode.links > (inode.is_directory() ? kMaxDirectoryLinks : kMaxLinks)) return "links";
  for (const Time* time : {&inode.atime, &inode.mtime, &inode.ctime, &inode.btime}) {
    if (time->nanoseconds >= kNanosecondsPerSecond) return "time";
  }
  return nullptr;
}

}  // namespace

Attributes Inode::attributes() const {
  Attributes a;
  a.ino = ino;
  a.generation = generation;
  a.mode = mode;
  a.links = links;
  a.uid = uid;
  a.gid = gid;
  a.device = device;
  a.size = size;
  a.allocated_bytes = allocated_bytes;
  a.parent = parent;
  a.flags = flags & kInodeSettable;
  a.atime = atime;
  a.mtime = mtime;
  a.ctime = ctime;
  a.btime = btime;
  return a;
}

Result<Inode> decode_inode(InodeNumber ino, ConstBytes value) {
  const auto loaded = load_exactly<InodeOnDisk>(value);
  if (!loaded) {
    return Error(Errc::bad_item, fmt::format("inode {}: item of {} bytes instead of {}", ino.value,
                                             value.size(), sizeof(InodeOnDisk)));
  }
  const InodeOnDisk& disk = *loaded;
  Inode inode;
  inode.ino = ino;
  inode.size = disk.size;
  inode.allocated_bytes = disk.allocated_bytes;
  inode.parent = InodeNumber{disk.parent};
  inode.generation = disk.generation;
  inode.mode = disk.mode;
  inode.links = disk.links;
  inode.uid = disk.uid;
  inode.gid = disk.gid;
  inode.device = disk.device;
  inode.flags = disk.flags;
  inode.atime = decode_time(disk.atime);
  inode.mtime = decode_time(disk.mtime);
  inode.ctime = decode_time(disk.ctime);
  inode.btime = decode_time(disk.btime);
  const char* fault = disk.reserved != 0 ? "reserved bytes" : fault_of(inode);
  if (fault != nullptr) {
    return Error(Errc::bad_item, fmt::format("inode {}: impossible {}", ino.value, fault));
  }
  return inode;
}

InodeOnDisk encode_inode(const Inode& inode) {
  InodeOnDisk disk;
  disk.size = inode.size;
  disk.allocated_bytes = inode.allocated_bytes;
  disk.parent = inode.parent.value;
  disk.generation = inode.generation;
  disk.mode = inode.mode;
  disk.links = inode.links;
  disk.uid = inode.uid;
  disk.gid = inode.gid;
  disk.device = inode.device;
  disk.flags = inode.flags;
  disk.atime = encode_time(inode.atime);
  disk.mtime = encode_time(inode.mtime);
  disk.ctime = encode_time(inode.ctime);
  disk.btime = encode_time(inode.btime);
  disk.reserved = 0;
  return disk;
}

Result<Inode> load_inode(Access& access, const Tree& tree, InodeNumber ino) {
  TRY(auto value, tree.find(access, inode_key(ino)));
  if (!value) return Errc::not_found;
  return decode_inode(ino, *value);
}

Result<Inode> prepare_inode(Txn& txn, const Tree& tree, InodeNumber ino) {
  TRY(auto inode, load_inode(txn, tree, ino));
  TRY(tree.prepare(txn, inode_key(ino), Tree::Intent::put));
  return inode;
}

void store_inode(Txn& txn, const Tree& tree, const Inode& inode) {
  const InodeOnDisk disk = encode_inode(inode);
  tree.put(txn, inode_key(inode.ino), object_bytes(disk));
}

}  // namespace moltfs::fs
