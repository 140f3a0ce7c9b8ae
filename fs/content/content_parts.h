// SPDX-License-Identifier: MIT
// Inside fs only: what read.cc, write.cc, truncate.cc, allocate.cc and copy.cc share.
#pragma once

#include <functional>
#include <vector>

#include "fs/content/blocks.h"

namespace moltfs::fs {

/// The end of the last block that a file can have.
inline constexpr uint64_t kEndOfBlocks = kMaxFileBytes + 1;
/// Long requests go through buffers of this size.
inline constexpr uint64_t kBufferBytes = 1024 * 1024;

/// The inode of a regular file. Errors: is_a_directory, invalid_argument (another type), those
/// of load_inode.
Result<Inode> load_file(Access& access, const FilesystemContext& context, InodeNumber ino);
/// The same in a critical section of its own.
Result<Inode> read_file_inode(FilesystemContext& context, InodeNumber ino);

struct LockedFile {
  RangeLock lock;
  Inode inode;  ///< as it is under the lock
};
inline constexpr FileRange kWholeFile{0, RangeLocks::kToEnd};
/// Locks all of the file exclusively.
Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino);
/// Locks exclusively the range that `range_of` demands for the file as it is. While the lock is
/// held, size and kind (inline or not) of the file do not change if the range covers what
/// lock_range() demands.
Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino,
                             const std::function<FileRange(const Inode&)>& range_of);
/// What a change of bytes [first, end) has to lock: whole blocks; to the end if the file grows; all
/// of a file that is small enough to be inline, or to become inline.
FileRange lock_range(const Inode& inode, uint64_t first, uint64_t end);

/// What a file has in the first and in the last block of a write that covers them only in part.
/// Nothing where it is not needed: a whole block, beyond the end, inline.
struct EdgeBlocks {
  StoredExtents head, tail;
};
/// In a critical section, for a write of [first, end), which is not empty. Errors:
/// node_missing, bad_item.
Result<EdgeBlocks> load_edges(Access& access, const FilesystemContext& context, const Inode& inode,
                              uint64_t first, uint64_t end);

/// Whole blocks that hold [at, at + from.size()), including the surrounding bytes already in
/// the file.
struct WholeBlocks {
  std::vector<AlignedBuffer> buffers;
  std::vector<BlockSpan> spans;
};
/// Inline data of the file is in the first span. `known`: what a critical section under the same
/// range lock found. Errors: those of read_blocks.
Result<WholeBlocks> compose_blocks(FilesystemContext& context, const Inode& inode, uint64_t at,
                                   ConstBytes from, EdgeBlocks known = {});

/// Moves inline data into an extent.
Result<void> convert_inline(FilesystemContext& context, const Inode& inode);
/// Overwrites [first, end), which lies within one block and within the file, with zeros, if
/// something is stored there.
Result<void> zero_partial_block(FilesystemContext& context, const Inode& inode, uint64_t first,
                                uint64_t end);
/// Changes only the inode.
Result<void> update_inode(FilesystemContext& context, InodeNumber ino, const InodeUpdate& update);
/// Cuts the blocks [first, end) from the file, in several critical sections if there are many.
Result<void> cut_blocks(FilesystemContext& context, InodeNumber ino, uint64_t first, uint64_t end,
                        const InodeUpdate& update);
/// In a critical section: true if a truncate was interrupted by an error, so that extents beyond
/// the end of the file may remain. Errors: node_missing, bad_item.
Result<bool> is_truncate_unfinished(Access& access, const FilesystemContext& context,
                                    const Inode& inode);
/// Before a file grows: finishes a truncate that was interrupted by an error, so that the bytes
/// beyond the end do not reappear.
Result<void> before_growth(FilesystemContext& context, const Inode& inode);
/// Grows the file to `size` if it is shorter.
Result<void> grow_content(FilesystemContext& context, InodeNumber ino, uint64_t size);

}  // namespace moltfs::fs
