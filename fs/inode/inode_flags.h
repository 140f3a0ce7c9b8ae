// SPDX-License-Identifier: MIT
// Inside fs only: what the flags of chattr(1) demand. The rules are Linux's, which its kernel does
// not apply to FUSE: it knows of the flags only what passes through it when they are set.
//
// immutable: no names come or go in it, it neither gets nor loses one, nothing of it changes.
// append-only: files are opened for writing only to append; directories get names but lose none;
//   it loses no name, and its attributes stay but for times that become now.
// dirsync: of a directory, changes of its names are durable when they are answered.
// What was open before goes on being written, as on btrfs: the pages that the kernel writes back
// late must find their place.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

// Error of all: not_permitted.
Result<void> may_add_name(const Inode& directory);
Result<void> may_remove_name(const Inode& directory, const Inode& named);
Result<void> may_be_linked(const Inode& inode);
/// All but the size.
Result<void> may_change(const Inode& inode, const SetAttributes& set);
Result<void> may_change_xattrs(const Inode& inode);
Result<void> may_open(FilesystemContext& context, InodeNumber ino, bool writes, bool appends);

/// Of an inode made in `directory`.
uint32_t inherited_flags(const Inode& directory, bool is_directory);
/// Of those in `which`, the inode has `flags` then.
Result<Attributes> change_flags(FilesystemContext& context, InodeNumber ino, uint32_t flags,
                                uint32_t which);

}  // namespace moltfs::fs
