// SPDX-License-Identifier: MIT
// Reading content, and finding data and holes.
#include "fs/content/content.h"

#include <algorithm>
#include <cstring>

#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

constexpr size_t kExtentsPerSearch = 256;

/// By way of a buffer: what is not whole blocks, or not aligned in memory.
Result<void> read_by_copy(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                          Bytes into) {
  while (!into.empty()) {
    const uint64_t first = round_down(offset, kBlockSize);
    const uint64_t end = std::min(offset + into.size(), first + kPieceBytes);
    AlignedBuffer buffer(round_up(end, kBlockSize) - first);
    TRY(read_blocks(context, ino, first, buffer.span()));
    std::memcpy(into.data(), buffer.data() + (offset - first), end - offset);
    into = into.subspan(end - offset);
    offset = end;
  }
  return ok();
}

/// `length` bytes of `into`; beyond them, up to its size, `into` may be overwritten.
Result<void> read_stored(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                         uint64_t length) {
  uint64_t direct = 0;
  if (is_aligned(into.data()) && offset % kBlockSize == 0) {
    direct = round_up(length, kBlockSize);
    if (direct > into.size()) direct = round_down(length, kBlockSize);
    TRY(read_blocks(context, ino, offset, into.first(direct)));
  }
  if (direct >= length) return ok();
  return read_by_copy(context, ino, offset + direct, into.subspan(direct, length - direct));
}

struct SmallContent {
  Inode inode;
  std::vector<std::byte> bytes;  ///< of a file that is inline
};

Result<size_t> read_locked(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                           Inode& inode) {
  TRY(auto found, context.transactions.read([&](Access& access) -> Result<SmallContent> {
    SmallContent small;
    TRY(small.inode, load_file(access, context, ino));
    if (small.inode.is_inline()) {
      TRY(small.bytes, load_inline(access, context, small.inode));
    }
    return small;
  }));
  inode = found.inode;
  if (offset >= inode.size) return size_t{0};
  const uint64_t length = std::min<uint64_t>(into.size(), inode.size - offset);
  if (inode.is_inline()) {
    std::memcpy(into.data(), found.bytes.data() + offset, length);
    return length;
  }
  TRY(read_stored(context, ino, offset, into, length));
  return length;
}

/// One step of a search: the answer, or where to go on.
struct SearchStep {
  bool done = false;
  uint64_t at = 0;
};

/// Looks at some extents from `at` on, below `end`.
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
