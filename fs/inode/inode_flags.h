// SPDX-License-Identifier: MIT
// Inside fs only: enforces the flags of chattr(1). The rules are those of Linux, whose kernel does
// not apply them to FUSE: it does not know which flags an inode has.
//
// immutable    Nothing of the inode changes; it gets no new name and loses none. In an immutable
//              directory no names are added or removed.
// append-only  Files can be opened for writing only with O_APPEND. Directories get names but lose
//              none. The inode loses no name. Its attributes do not change, but times can be set
//              to now.
// dirsync      Changes of names in this directory are durable when they are answered.
//
// A file that is already open stays writable, as on btrfs: pages that the kernel writes back late
// must be accepted.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

// Error of all: not_permitted.
Result<void> may_add_name(const Inode& directory);
Result<void> may_remove_name(const Inode& directory, const Inode& named);
Result<void> may_be_linked(const Inode& inode);
/// All attributes except the size.
Result<void> may_change(const Inode& inode, const SetAttributes& set);
Result<void> may_change_xattrs(const Inode& inode);
Result<void> may_open(FilesystemContext& context, InodeNumber ino, bool writes, bool appends);

/// The flags of an inode that is made in `directory`.
uint32_t inherited_flags(const Inode& directory, bool is_directory);
/// Sets the flags in `which` to their values in `flags`. Errors: not_supported (unknown
/// flags), not_found.
Result<Attributes> change_flags(FilesystemContext& context, InodeNumber ino, uint32_t flags,
                                uint32_t which);

}  // namespace moltfs::fs
