// SPDX-License-Identifier: MIT
// Setting the size of a file, and freeing what lies beyond it.
//
// Shrinking:  1. If the new end is inside a block, this block is written anew, its tail zeroed.
//             2. One critical section sets the size, puts that block in place, and cuts the first
//                extents beyond the end. If more remain, it puts the mark (OrphanKind::truncate).
//             3. Further sections cut the rest; the last one removes the mark.
// A crash before step 2 leaves the old file, after it the new one: at mount finish_truncate()
// continues with step 3. If step 3 is interrupted by an error, the mark stays, and operations that
// grow the file finish step 3 first (before_growth): bytes beyond the end never reappear.
//
// An inode has at most one orphan mark: an inode without names has the mark OrphanKind::remove
// instead. Then written extents beyond its end show that step 3 is unfinished.
#include <algorithm>

#include "fs/content/content.h"
#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"
#include "fs/inode/orphan_mark.h"

namespace moltfs::fs {
namespace {

constexpr unsigned kMarkItemChanges = 1;

Result<void> remove_mark(FilesystemContext& context, InodeNumber ino) {
  const Budget budget{kMarkItemChanges, alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto mark, load_orphan_mark(context, txn, ino));
    if (mark != OrphanKind::truncate) return ok();
    TRY(context.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::erase));
    context.fs_tree().erase(txn, orphan_key(ino));
    return ok();
  });
}

/// Step 3.
Result<void> cut_beyond_size(FilesystemContext& context, const Inode& inode) {
  InodeUpdate update;
  update.keep_times = true;
  TRY(cut_blocks(context, inode.ino, round_up(inode.size, kBlockSize), kEndOfBlocks, update));
  return remove_mark(context, inode.ino);
}

/// Both the file and its new size are small.
Result<void> resize_inline(FilesystemContext& context, InodeNumber ino, uint64_t size,
                           const InodeUpdate& update) {
  const Budget budget{1 + InlineChange::kItemChanges, alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    if (inode.is_inline()) {
      TRY(auto content, load_inline(txn, context, inode));
      content.resize(size);
      InlineChange change(context, ino);
      TRY(change.prepare(txn, inode, std::move(content)));
      change.apply(txn, inode);
    }
    inode.size = size;
    update.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> grow(FilesystemContext& context, const Inode& inode, uint64_t size,
                  const InodeUpdate& update) {
  TRY(before_growth(context, inode));
  InodeUpdate growing = update;
  growing.size_at_least = size;
  if (!inode.is_inline()) return update_inode(context, inode.ino, growing);
  TRY(auto blocks, compose_blocks(context, inode, inode.size, {}));
  BlockWriter writer(context, inode.ino);
  TRY(writer.write(blocks.spans));
  return writer.record(growing);
}

/// Step 1: the last block of the file, cut at `size`; nothing if no stored bytes need to be zeroed.
Result<WholeBlocks> cut_block(FilesystemContext& context, const Inode& inode, uint64_t size) {
  const uint64_t block = round_down(size, kBlockSize);
  bool is_stored = false;
  if (size != block && size < inode.size) {
    TRY(visit_extents(context, inode.ino, block, block + kBlockSize,
                      [&](const Extent& extent) { is_stored |= !extent.unwritten; }));
  }
  if (!is_stored) return WholeBlocks{};
  const std::vector<std::byte> zeros(block + kBlockSize - size);
  return compose_blocks(context, inode, size, zeros);
}

/// Step 2. False: more extents remain.
Result<bool> cut_section(FilesystemContext& context, InodeNumber ino, uint64_t size,
                         BlockWriter& tail, size_t limit, const InodeUpdate& update) {
  const Budget budget{1 + kMarkItemChanges + ExtentChange::item_changes(limit, 1),
                      alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<bool> {
    const uint64_t first = round_down(size, kBlockSize), cut = round_up(size, kBlockSize);
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(auto end, bounded_end(txn, context.fs_tree(), ino, first, kEndOfBlocks, limit));
    end = std::max(end, cut);
    ExtentChange change(context, ino);
    TRY(change.load(txn, first, end));
    TRY(tail.put_into(change, txn.running(), first, cut));
    change.cut(cut, end);
    TRY(change.prepare(txn));
    TRY(add_allocated(inode, change.allocated_change()));
    TRY(auto mark, load_orphan_mark(context, txn, ino));
    const bool marks = end < kEndOfBlocks && !mark;
    if (marks) {
      TRY(prepare_orphan_mark(context, txn, ino));
    }
    change.apply(txn);
    if (marks) put_orphan_mark(context, txn, ino, OrphanKind::truncate);
    inode.size = size;
    update.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return end == kEndOfBlocks;
  });
}

Result<void> shrink(FilesystemContext& context, const Inode& inode, uint64_t size,
                    const InodeUpdate& update) {
  TRY(auto blocks, cut_block(context, inode, size));
  BlockWriter tail(context, inode.ino, alloc::ReserveClass::reclaiming);
  if (!blocks.spans.empty()) {
    TRY(tail.write(blocks.spans));
  }
  for (size_t limit = kExtentsPerSection;; limit /= 2) {
    auto done = cut_section(context, inode.ino, size, tail, limit, update);
    if (!done && done.error() == Errc::no_space && limit > 1) continue;
    TRY(done);
    tail.recorded_up_to(kEndOfBlocks);
    if (done.value()) return ok();
    Inode shrunk = inode;
    shrunk.size = size;
    return cut_beyond_size(context, shrunk);
  }
}

/// Only an unfinished truncate leaves such extents (E3 in extents.h).
Result<bool> has_written_beyond_end(Access& access, const FilesystemContext& context,
                                    const Inode& inode) {
  bool found = false;
  const Key first = extent_key(inode.ino, round_up(inode.size, kBlockSize));
  const Key last = extent_key(inode.ino, kEndOfBlocks);
  TRY(context.fs_tree().scan(access, first, last, [&](const Item& item) -> Result<bool> {
    TRY(const auto extent, decode_file_extent(item));
    found = !extent.unwritten;
    return !found;
  }));
  return found;
}

/// A full volume may have no block for step 1. Then whole blocks are freed first.
Result<void> shrink_or_make_room(FilesystemContext& context, const Inode& inode, uint64_t size,
                                 const InodeUpdate& update) {
  auto result = shrink(context, inode, size, update);
  const uint64_t whole = round_up(size, kBlockSize);
  if (result || !(result.error() == Errc::no_space) || whole >= inode.size) return result;
  TRY(shrink(context, inode, whole, update));
  TRY(context.transactions.commit_and_free());
  TRY(auto now, read_file_inode(context, inode.ino));
  return shrink(context, now, size, update);
}

}  // namespace

Result<bool> is_truncate_unfinished(Access& access, const FilesystemContext& context,
                                    const Inode& inode) {
  TRY(const auto mark, load_orphan_mark(context, access, inode.ino));
  if (mark != OrphanKind::remove) return mark == OrphanKind::truncate;
  return has_written_beyond_end(access, context, inode);
}

Result<void> before_growth(FilesystemContext& context, const Inode& inode) {
  TRY(const bool unfinished, context.transactions.read([&](Access& access) {
    return is_truncate_unfinished(access, context, inode);
  }));
  return unfinished ? cut_beyond_size(context, inode) : ok();
}

Result<void> grow_content(FilesystemContext& context, InodeNumber ino, uint64_t size) {
  if (size > kMaxFileBytes) return Errc::file_too_large;
  TRY(auto file, lock_file(context, ino));
  if (file.inode.size >= size) return ok();
  if (fits_inline(file.inode, size)) return resize_inline(context, ino, size, {});
  return grow(context, file.inode, size, {});
}

Result<void> truncate_content(FilesystemContext& context, InodeNumber ino, uint64_t size,
                              const std::function<void(Inode&)>& also) {
  if (size > kMaxFileBytes) return Errc::file_too_large;
  TRY(auto file, lock_file(context, ino));
  InodeUpdate update;
  update.also = also;
  const Inode& inode = file.inode;
  if (fits_inline(inode, size)) return resize_inline(context, ino, size, update);
  if (size > inode.size) return grow(context, inode, size, update);
  return shrink_or_make_room(context, inode, size, update);
}

Result<void> finish_truncate(FilesystemContext& context, InodeNumber ino) {
  TRY(auto file, lock_file(context, ino));
  return cut_beyond_size(context, file.inode);
}

Result<void> drop_content(FilesystemContext& context, InodeNumber ino) {
  const RangeLock lock = context.ranges.exclusive(ino, 0, RangeLocks::kToEnd);
  const Budget budget{1 + InlineRemoval::kItemChanges, alloc::ReserveClass::reclaiming};
  TRY(context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    InlineRemoval removal(context, inode);
    TRY(removal.prepare(txn));
    removal.apply(txn, inode);
    if (inode.is_regular() || inode.is_symlink()) inode.size = 0;
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  }));
  InodeUpdate update;
  update.keep_times = true;
  return cut_blocks(context, ino, 0, kEndOfBlocks, update);
}

}  // namespace moltfs::fs
