// SPDX-License-Identifier: MIT
// Inside fs only: what read.cc, write.cc, truncate.cc, allocate.cc and copy.cc share.
#pragma once

#include <functional>
#include <vector>

#include "fs/content/blocks.h"

namespace moltfs::fs {

/// Beyond the last block that a file can have.
inline constexpr uint64_t kEndOfBlocks = kMaxFileBytes + 1;
/// Unit in which long requests go through a buffer.
inline constexpr uint64_t kPieceBytes = 1024 * 1024;

/// The inode of a regular file. Errors: is_a_directory, invalid_argument (another type), those of
/// load_inode.
Result<Inode> load_file(Access& access, const FilesystemContext& context, InodeNumber ino);
/// The same in a critical section of its own.
Result<Inode> read_file_inode(FilesystemContext& context, InodeNumber ino);

struct LockedFile {
  RangeLock lock;
  Inode inode;  ///< as it is under the lock
};
/// Locks exclusively the range that `range_of` demands of the file as it is. Size and kind (inline
/// or not) of the file stand still as long as the range covers what follows from lock_range().
Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino,
                             const std::function<FileRange(const Inode&)>& range_of);
/// What a change of bytes [first, end) has to lock: whole blocks; to the end if the file grows; all
/// of a file that is small enough to be, or to become, inline.
FileRange lock_range(const Inode& inode, uint64_t first, uint64_t end);

/// Whole blocks that hold [at, at + from.size()): with what the file has around, if need be.
struct WholeBlocks {
  std::vector<AlignedBuffer> buffers;
  std::vector<Piece> pieces;
};
/// Inline data of the file is in the first piece. Errors: those of read_blocks.
Result<WholeBlocks> compose_blocks(FilesystemContext& context, const Inode& inode, uint64_t at,
                                   ConstBytes from);

/// Moves inline data into an extent.
Result<void> convert_inline(FilesystemContext& context, const Inode& inode);
/// Overwrites [first, end), which lies within one block and within the file, with zeros, if
/// something is stored there.
Result<void> zero_partial_block(FilesystemContext& context, const Inode& inode, uint64_t first,
                                uint64_t end);
/// Changes nothing but the inode.
Result<void> settle(FilesystemContext& context, InodeNumber ino, const Settlement& settlement);
/// Cuts the blocks [first, end) from the file, in several critical sections if there are many.
Result<void> cut_blocks(FilesystemContext& context, InodeNumber ino, uint64_t first, uint64_t end,
                        const Settlement& settlement);
/// A truncate was interrupted by an error, and what it left beyond the end is still there.
Result<bool> truncate_was_interrupted(FilesystemContext& context, InodeNumber ino);
/// Before a file grows: if a truncate of it was interrupted by an error, goes on with it, so that
/// what it left beyond the end does not come to light.
Result<void> before_growth(FilesystemContext& context, const Inode& inode);
/// Grows the file to `size`; if it has that much already nothing happens.
Result<void> grow_content(FilesystemContext& context, InodeNumber ino, uint64_t size);

}  // namespace moltfs::fs
