// SPDX-License-Identifier: MIT
// Inside fs only: reading whole blocks of a file, verified, repaired where another copy is good.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

/// Fills `into` with the blocks of `ino` from `offset` on; holes and preallocated space read as
/// zeros. REQUIRES: whole blocks, `into` aligned, a range lock on the range. Errors: io_error (no
/// good copy), bad_item, bad_node.
Result<void> read_blocks(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into);

}  // namespace moltfs::fs
