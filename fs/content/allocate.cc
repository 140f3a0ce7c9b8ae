// SPDX-License-Identifier: MIT
// Preallocation, holes and zeroed ranges: fallocate(2).
//
// Preallocated space is an unwritten extent: it reads as zeros and is a hole to SEEK_DATA. A
// written extent never becomes an unwritten one, because a durable superblock may refer to its
// bytes, and unwritten extents are written in place. So zeroing a range frees what is there and
// preallocates anew.
#include <algorithm>

#include "fs/content/content.h"
#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

/// Space that is taken in one step. Before a longer request the free space is checked.
constexpr uint64_t kWindowBytes = uint64_t{4} << 30;

struct Request {
  AllocateMode mode = AllocateMode::allocate;
  uint64_t first = 0, end = 0;  ///< bytes
  bool keep_size = false;
};

/// The whole blocks within [first, end). The block at the end of the file counts as whole if `end`
/// is at or beyond that end.
FileRange whole_blocks(const Inode& inode, uint64_t first, uint64_t end) {
  const FileRange blocks{round_up(first, kBlockSize), end >= inode.size
                                                          ? round_up(end, kBlockSize)
                                                          : round_down(end, kBlockSize)};
  return {blocks.first, std::max(blocks.first, blocks.end)};
}

/// Parts of `range` that have to be preallocated: those without extents, and with `zeroing` those
/// with written extents.
Result<std::vector<FileRange>> find_holes(FilesystemContext& context, InodeNumber ino,
                                          FileRange range, bool zeroing) {
  std::vector<FileRange> holes;
  uint64_t reached = range.first;
  TRY(visit_extents(context, ino, range.first, range.end, [&](const Extent& extent) {
    if (zeroing && !extent.unwritten) return;
    if (extent.file_offset > reached) holes.push_back({reached, extent.file_offset});
    reached = extent.file_end();
  }));
  if (reached < range.end) holes.push_back({reached, range.end});
  return holes;
}

Result<void> preallocate_window(FilesystemContext& context, InodeNumber ino, FileRange range,
                                bool zeroing) {
  TRY(auto holes, find_holes(context, ino, range, zeroing));
  if (holes.empty()) return ok();
  BlockWriter writer(context, ino);
  TRY(writer.preallocate(holes));
  return writer.record({});
}

Result<void> preallocate(FilesystemContext& context, InodeNumber ino, FileRange range,
                         bool zeroing) {
  if (range.end - range.first > kWindowBytes) {
    TRY(auto holes, find_holes(context, ino, range, zeroing));
    uint64_t wanted = 0;
    for (const FileRange& hole : holes) wanted += hole.end - hole.first;
    alloc::Space& space = context.transactions.volume().space();
    if (wanted > space.usage().available_bytes && space.pinned_bytes() > 0) {
      TRY(context.transactions.commit_and_free());
    }
    if (wanted > space.usage().available_bytes) return Errc::no_space;
  }
  for (uint64_t at = range.first; at < range.end; at += kWindowBytes) {
    TRY(preallocate_window(context, ino, {at, std::min(at + kWindowBytes, range.end)}, zeroing));
  }
  return ok();
}

/// Zeros the parts of the request in blocks that it does not cover completely.
Result<void> zero_edges(FilesystemContext& context, const Inode& inode, const Request& request,
                        const FileRange& whole) {
  if (whole.first > request.end) {  // all within one block
    return zero_partial_block(context, inode, request.first, request.end);
  }
  TRY(zero_partial_block(context, inode, request.first, whole.first));
  if (whole.end >= request.end) return ok();
  return zero_partial_block(context, inode, whole.end, request.end);
}

Result<void> zero_inline(FilesystemContext& context, InodeNumber ino, uint64_t first,
                         uint64_t end) {
  const Budget budget{1 + InlineChange::kItemChanges, alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(auto content, load_inline(txn, context, inode));
    const uint64_t stop = std::min<uint64_t>(end, content.size());
    for (uint64_t i = first; i < stop; ++i) content[i] = std::byte{0};
    InlineChange change(context, ino);
    TRY(change.prepare(txn, inode, std::move(content)));
    change.apply(txn, inode);
    InodeUpdate{}.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> punch_hole(FilesystemContext& context, const Inode& inode, const Request& request) {
  if (inode.is_inline()) return zero_inline(context, inode.ino, request.first, request.end);
  const FileRange whole = whole_blocks(inode, request.first, request.end);
  TRY(zero_edges(context, inode, request, whole));
  TRY(cut_blocks(context, inode.ino, whole.first, whole.end, {}));
  return update_inode(context, inode.ino, {});
}

Result<void> allocate(FilesystemContext& context, Inode inode, const Request& request) {
  const bool zeroing = request.mode == AllocateMode::zero_range;
  const bool grows = !request.keep_size && request.end > inode.size;
  if (request.end > inode.size) {
    TRY(before_growth(context, inode));
  }
  if (inode.is_inline()) {
    if (zeroing) {
      TRY(zero_inline(context, inode.ino, request.first, request.end));
    }
    TRY(convert_inline(context, inode));
  }
  if (zeroing) {
    TRY(auto now, read_file_inode(context, inode.ino));
    const FileRange whole = whole_blocks(now, request.first, request.end);
    TRY(zero_edges(context, now, request, whole));
    TRY(preallocate(context, inode.ino, whole, true));
  }
  const FileRange blocks{round_down(request.first, kBlockSize), round_up(request.end, kBlockSize)};
  TRY(preallocate(context, inode.ino, blocks, false));
  InodeUpdate update;
  if (grows) update.size_at_least = request.end;
  return update_inode(context, inode.ino, update);
}

}  // namespace

Result<void> allocate_content(FilesystemContext& context, InodeNumber ino, AllocateMode mode,
                              uint64_t offset, uint64_t length, bool keep_size) {
  if (length == 0) return Errc::invalid_argument;
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) return Errc::file_too_large;
  const Request request{mode, offset, offset + length,
                        keep_size || mode == AllocateMode::punch_hole};
  TRY(auto file, lock_file(context, ino, [&](const Inode& inode) {
        return lock_range(inode, request.first, request.end);
      }));
  if (file.inode.is_immutable()) return Errc::not_permitted;
  if (file.inode.is_append_only() && mode != AllocateMode::allocate) return Errc::not_permitted;
  if (mode == AllocateMode::punch_hole) return punch_hole(context, file.inode, request);
  return allocate(context, file.inode, request);
}

}  // namespace moltfs::fs
