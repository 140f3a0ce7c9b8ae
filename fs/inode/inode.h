// SPDX-License-Identifier: MIT
// Inodes in memory and their items in the fs tree.
#pragma once

#include "fs/format.h"
#include "fs/tree/transaction.h"
#include "fs/types.h"

namespace moltfs::fs {

/// An inode item, decoded.
struct Inode {
  InodeNumber ino;
  uint64_t size = 0, allocated_bytes = 0;
  InodeNumber parent;
  uint64_t generation = 0;
  uint32_t mode = 0, links = 0, uid = 0, gid = 0;
  uint64_t device = 0;
  uint32_t flags = 0;  ///< kInodeInline, kInodeSettable
  Time atime, mtime, ctime, btime;

  bool is_directory() const { return (mode & 0170000) == 0040000; }
  bool is_regular() const { return (mode & 0170000) == 0100000; }
  bool is_symlink() const { return (mode & 0170000) == 0120000; }
  bool is_inline() const { return (flags & kInodeInline) != 0; }
  bool is_immutable() const { return (flags & kInodeImmutable) != 0; }
  bool is_append_only() const { return (flags & kInodeAppendOnly) != 0; }
  Attributes attributes() const;
  bool operator==(const Inode&) const = default;
};

/// Decodes and checks every field. Error: bad_item.
Result<Inode> decode_inode(InodeNumber ino, ConstBytes value);
InodeOnDisk encode_inode(const Inode& inode);

// In a critical section. Errors: not_found (no such inode), node_missing, bad_item.
Result<Inode> load_inode(Access& access, const Tree& tree, InodeNumber ino);
/// Loads the inode and prepares its item for store_inode.
Result<Inode> prepare_inode(Txn& txn, const Tree& tree, InodeNumber ino);
/// REQUIRES: prepared. Inserts or updates.
void store_inode(Txn& txn, const Tree& tree, const Inode& inode);

}  // namespace moltfs::fs
