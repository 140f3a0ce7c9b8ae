// SPDX-License-Identifier: MIT
// Reading content, and finding data and holes.
#include <algorithm>
#include <cstring>
#include <utility>

#include "fs/content/content.h"
#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

constexpr size_t kExtentsPerSearch = 256;

/// How a read of [offset, offset + length) into `into` begins: with `direct` bytes that go straight
/// into it, then with bytes that go through a buffer. Whole blocks beyond `length` may be read if
/// `into` has room for them.
uint64_t direct_bytes(uint64_t offset, Bytes into, uint64_t length) {
  if (!is_aligned(into.data()) || offset % kBlockSize != 0) return 0;
  const uint64_t whole = round_up(length, kBlockSize);
  return whole <= into.size() ? whole : round_down(length, kBlockSize);
}

/// The blocks of one buffer for [offset, end).
FileRange buffered_blocks(uint64_t offset, uint64_t end) {
  const uint64_t first = round_down(offset, kBlockSize);
  return {first, std::min(round_up(end, kBlockSize), first + kBufferBytes)};
}

/// The blocks that are read first.
FileRange first_blocks(uint64_t offset, Bytes into, uint64_t length) {
  const uint64_t direct = direct_bytes(offset, into, length);
  if (direct > 0) return {offset, offset + direct};
  return buffered_blocks(offset, offset + length);
}

/// Reads `length` bytes; may overwrite the rest of `into`. `known`: of first_blocks().
Result<void> read_stored(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                         uint64_t length, StoredExtents known) {
  const uint64_t direct = direct_bytes(offset, into, length);
  if (direct > 0) {
    TRY(read_blocks(context, ino, offset, into.first(direct), std::exchange(known, {})));
  }
  for (uint64_t done = direct; done < length;) {
    const uint64_t at = offset + done;
    const FileRange blocks = buffered_blocks(at, offset + length);
    AlignedBuffer buffer(blocks.end - blocks.first);
    TRY(read_blocks(context, ino, blocks.first, buffer.span(), std::exchange(known, {})));
    const uint64_t bytes = std::min(blocks.end - at, length - done);
    std::memcpy(into.data() + done, buffer.data() + (at - blocks.first), bytes);
    done += bytes;
  }
  return ok();
}

/// What one critical section under the range lock finds.
struct ReadView {
  Inode inode;
  std::vector<std::byte> inline_bytes;
  StoredExtents stored;  ///< of first_blocks(), if the file is not inline
};

Result<ReadView> look(Access& access, const FilesystemContext& context, InodeNumber ino,
                      uint64_t offset, Bytes into) {
  ReadView view;
  TRY(view.inode, load_file(access, context, ino));
  if (view.inode.is_inline()) {
    TRY(view.inline_bytes, load_inline(access, context, view.inode));
  } else if (offset < view.inode.size) {
    const uint64_t length = std::min<uint64_t>(into.size(), view.inode.size - offset);
    TRY(view.stored, load_stored(access, context, ino, first_blocks(offset, into, length)));
  }
  return view;
}

Result<size_t> read_locked(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                           Inode& inode) {
  TRY(auto view, context.transactions.read(
                     [&](Access& access) { return look(access, context, ino, offset, into); }));
  inode = view.inode;
  if (offset >= inode.size) return size_t{0};
  const uint64_t length = std::min<uint64_t>(into.size(), inode.size - offset);
  if (inode.is_inline()) {
    std::memcpy(into.data(), view.inline_bytes.data() + offset, length);
    return length;
  }
  TRY(read_stored(context, ino, offset, into, length, std::move(view.stored)));
  return length;
}

/// One step of a search: the answer, or where to continue.
struct SearchStep {
  bool done = false;
  uint64_t at = 0;
};

/// Examines some extents from `at` on, below `end`.
Result<SearchStep> search_extents(Access& access, const FilesystemContext& context, InodeNumber ino,
                                  uint64_t at, uint64_t end, SeekWhence whence) {
  TRY(auto extents, extents_in(access, context.fs_tree(), ino, at, end, kExtentsPerSearch));
  for (const Extent& extent : extents) {
    const bool is_gap_before = extent.file_offset > at;
    if (whence == SeekWhence::hole && (is_gap_before || extent.unwritten)) {
      return SearchStep{true, at};
    }
    if (whence == SeekWhence::data && !extent.unwritten) {
      return SearchStep{true, std::max(at, extent.file_offset)};
    }
    at = extent.file_end();
  }
  if (extents.size() == kExtentsPerSearch && at < end) return SearchStep{false, at};
  return SearchStep{true, whence == SeekWhence::hole ? at : end};
}

}  // namespace

Result<size_t> read_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                            Bytes into, bool is_access) {
  if (into.empty() || offset > kMaxFileBytes) {
    TRY(read_file_inode(context, ino));
    return size_t{0};
  }
  const uint64_t end = std::min(kEndOfBlocks, offset + into.size());
  RangeLock lock =
      context.ranges.shared(ino, round_down(offset, kBlockSize), round_up(end, kBlockSize));
  Inode inode;
  auto result = read_locked(context, ino, offset, into.first(end - offset), inode);
  lock.unlock();
  if (result && is_access) context.note_access(inode);
  return result;
}

Result<uint64_t> seek_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                              SeekWhence whence) {
  if (offset > kMaxFileBytes) {
    TRY(read_file_inode(context, ino));
    return Errc::no_such_offset;
  }
  const RangeLock lock =
      context.ranges.shared(ino, round_down(offset, kBlockSize), RangeLocks::kToEnd);
  TRY(auto inode, read_file_inode(context, ino));
  if (offset >= inode.size) return Errc::no_such_offset;
  if (inode.is_inline()) return whence == SeekWhence::data ? offset : inode.size;
  for (uint64_t at = offset;;) {
    TRY(auto step, context.transactions.read([&](Access& access) {
      return search_extents(access, context, ino, at, inode.size, whence);
    }));
    at = step.at;
    if (!step.done) continue;
    if (at < inode.size) return at;
    if (whence == SeekWhence::hole) return inode.size;
    return Errc::no_such_offset;
  }
}

}  // namespace moltfs::fs
