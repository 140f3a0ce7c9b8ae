// SPDX-License-Identifier: MIT
// Inside fs only: access times.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

/// `inode` was read: its atime becomes now, if the mount's rule says so. relative: only if it is
/// not younger than mtime and ctime, or a day old. Takes a critical section; errors are ignored.
void note_access(FilesystemContext& context, const Inode& inode);
/// The same by number; true if atime has moved.
bool note_access(FilesystemContext& context, InodeNumber ino);

}  // namespace moltfs::fs
