// SPDX-License-Identifier: MIT
// Marks in the fs tree of inodes that are to be removed (orphans), or cut to their size (truncates
// that are under way), at the latest by the next mount. fs/reclaimer.h tells the whole life.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

// In a critical section.
Result<void> prepare_orphan(const FilesystemContext& context, Txn& txn, InodeNumber ino);
/// REQUIRES: prepared. Inserts or overwrites (a removal overrides a truncate).
void put_orphan(const FilesystemContext& context, Txn& txn, InodeNumber ino, OrphanKind kind);
/// Error: bad_item.
Result<OrphanKind> decode_orphan(const Key& key, ConstBytes value);

/// Gives references back; an orphan that nobody holds any more goes to the background task.
void forget_inode(FilesystemContext& context, InodeNumber ino, uint64_t count);

}  // namespace moltfs::fs
