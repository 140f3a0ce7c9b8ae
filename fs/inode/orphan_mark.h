// SPDX-License-Identifier: MIT
// Orphan marks: items of the fs tree for inodes that are to be removed (orphans), or to be cut to
// their size (unfinished truncates), at the latest by the next mount. An inode has at most one
// mark; fs/README.md tells how the two kinds work together.
#pragma once

#include <optional>

#include "fs/inode/context.h"

namespace moltfs::fs {

// In a critical section.
/// The mark of `ino`, if it has one. Errors: bad_item, node_missing.
Result<std::optional<OrphanKind>> load_orphan_mark(const FilesystemContext& context, Access& access,
                                                   InodeNumber ino);
/// Error: node_missing.
Result<void> prepare_orphan_mark(const FilesystemContext& context, Txn& txn, InodeNumber ino);
/// REQUIRES: prepared. Inserts or overwrites (a removal overrides a truncate).
void put_orphan_mark(const FilesystemContext& context, Txn& txn, InodeNumber ino, OrphanKind kind);

/// Error: bad_item.
Result<OrphanKind> decode_orphan_mark(const Key& key, ConstBytes value);

}  // namespace moltfs::fs
