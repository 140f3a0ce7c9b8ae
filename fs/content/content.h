// SPDX-License-Identifier: MIT
// Inside fs only: the bytes of files. fs/filesystem.h has the contracts.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

Result<size_t> read_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                            Bytes into, bool is_access = true);
/// The caller clears set-id bits and capabilities (fs/attributes.h).
Result<uint64_t> write_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                               ConstBytes from, WriteFlags flags);
Result<void> allocate_content(FilesystemContext& context, InodeNumber ino, AllocateMode mode,
                              uint64_t offset, uint64_t length, bool keep_size);
Result<uint64_t> seek_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                              SeekWhence whence);
Result<uint64_t> copy_content(FilesystemContext& context, InodeNumber from, uint64_t from_offset,
                              InodeNumber to, uint64_t to_offset, uint64_t length);
/// Sets the size. Growing leaves zeros after the old end. Shrinking zeros the rest of the last
/// block (by writing it anew) and frees the blocks beyond, in several critical sections if there
/// are many; an orphan mark (OrphanKind::truncate) shows that it is unfinished. `also` is applied
/// in the critical section that sets the size, for other attributes of the same call.
Result<void> truncate_content(FilesystemContext& context, InodeNumber ino, uint64_t size,
                              const std::function<void(Inode&)>& also);
/// Finishes a truncate that a crash interrupted: cuts to the inode's size, removes the mark.
Result<void> finish_truncate(FilesystemContext& context, InodeNumber ino);
/// Frees all extents and inline data of an orphan, in several critical sections. The inode stays.
Result<void> drop_content(FilesystemContext& context, InodeNumber ino);

}  // namespace moltfs::fs
