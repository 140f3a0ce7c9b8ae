// SPDX-License-Identifier: MIT
// Setting the size of a file, and freeing what lies beyond it.
//
// Shrinking:  1. a last block that is cut in the middle is written anew, its tail zeroed;
//             2. one critical section sets the size, lets that block take its place, and cuts the
//                first extents beyond. If more are left it puts the mark (OrphanKind::truncate);
//             3. further sections cut the rest; the last one removes the mark.
// A crash before 2 leaves the old file, after it the new one: at mount finish_truncate() goes on at
// 3. If 3 is interrupted by an error the mark stays, and whoever grows the file goes on first
// (before_growth): what lies beyond the end never comes to light.
//
// An inode has one orphan item: if it has no name, the item says so already, and stays.
#include <algorithm>
#include <cstring>
#include <optional>

#include "fs/content_parts.h"
#include "fs/inline_data.h"

namespace moltfs::fs {
namespace {

constexpr unsigned kMarkItemChanges = 1;

Result<std::optional<OrphanKind>> load_mark(Access& access, const Core& core, InodeNumber ino) {
  TRY(auto value, core.fs_tree().find(access, orphan_key(ino)));
  if (!value) return std::optional<OrphanKind>();
  OrphanOnDisk disk;
  if (value->size() != sizeof(disk)) return Errc::bad_item;
  std::memcpy(&disk, value->data(), sizeof(disk));
  return std::optional(static_cast<OrphanKind>(static_cast<uint8_t>(disk.what)));
}

void put_mark(Txn& txn, const Core& core, InodeNumber ino) {
  OrphanOnDisk disk;
  disk.what = static_cast<uint8_t>(OrphanKind::truncate);
  core.fs_tree().put(txn, orphan_key(ino), std::as_bytes(std::span(&disk, 1)));
}

Result<void> remove_mark(Core& core, InodeNumber ino) {
  const Budget budget{kMarkItemChanges, alloc::Urgency::reclaiming};
  return core.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto mark, load_mark(txn, core, ino));
    if (mark != OrphanKind::truncate) return ok();
    TRY(core.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::erase));
    core.fs_tree().erase(txn, orphan_key(ino));
    return ok();
  });
}

/// Step 3.
Result<void> cut_beyond_size(Core& core, const Inode& inode) {
  Settlement settlement;
  settlement.keep_times = true;
  TRY(cut_blocks(core, inode.ino, round_up(inode.size, kBlockSize), kEndOfBlocks, settlement));
  return remove_mark(core, inode.ino);
}

/// The new size is small, and so is the file.
Result<void> resize_inline(Core& core, InodeNumber ino, uint64_t size,
                           const Settlement& settlement) {
  const Budget budget{1 + InlineChange::kItemChanges, alloc::Urgency::reclaiming};
  return core.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, core.fs_tree(), ino));
    if (inode.is_inline()) {
      TRY(auto content, load_inline(txn, core, inode));
      content.resize(size);
      InlineChange change(core, ino);
      TRY(change.prepare(txn, inode, std::move(content)));
      change.apply(txn, inode);
    }
    inode.size = size;
    settlement.apply(inode, core.now());
    store_inode(txn, core.fs_tree(), inode);
    return ok();
  });
}

Result<void> grow(Core& core, const Inode& inode, uint64_t size, const Settlement& settlement) {
  TRY(before_growth(core, inode));
  Settlement growing = settlement;
  growing.size_at_least = size;
  if (!inode.is_inline()) return settle(core, inode.ino, growing);
  TRY(auto image, compose(core, inode, inode.size, {}));
  BlockWriter writer(core, inode.ino);
  TRY(writer.write(image.pieces));
  return writer.record(growing);
}

/// Step 1: the last block of the file, cut at `size`; nothing if there is nothing to zero.
Result<Image> cut_block(Core& core, const Inode& inode, uint64_t size) {
  const uint64_t block = round_down(size, kBlockSize);
  bool is_stored = false;
  if (size != block && size < inode.size) {
    TRY(visit_extents(core, inode.ino, block, block + kBlockSize,
                      [&](const Extent& extent) { is_stored |= !extent.unwritten; }));
  }
  if (!is_stored) return Image{};
  const std::vector<std::byte> zeros(block + kBlockSize - size);
  return compose(core, inode, size, zeros);
}

/// Step 2. False: there is more to cut.
Result<bool> cut_section(Core& core, InodeNumber ino, uint64_t size, BlockWriter& tail,
                         size_t limit, const Settlement& settlement) {
  const Budget budget{1 + kMarkItemChanges + ExtentChange::item_changes(limit, 1),
                      alloc::Urgency::reclaiming};
  return core.transactions.write(budget, [&](Txn& txn) -> Result<bool> {
    const uint64_t first = round_down(size, kBlockSize), cut = round_up(size, kBlockSize);
    TRY(auto inode, prepare_inode(txn, core.fs_tree(), ino));
    TRY(auto end, bounded_end(txn, core.fs_tree(), ino, first, kEndOfBlocks, limit));
    end = std::max(end, cut);
    ExtentChange change(core, ino);
    TRY(change.load(txn, first, end));
    TRY(tail.put_into(change, txn.running(), first, cut));
    change.cut(cut, end);
    TRY(change.prepare(txn));
    TRY(add_allocated(inode, change.allocated_change()));
    TRY(auto mark, load_mark(txn, core, ino));
    const bool marks = end < kEndOfBlocks && !mark;
    if (marks) {
      TRY(core.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::put));
    }
    change.apply(txn);
    if (marks) put_mark(txn, core, ino);
    inode.size = size;
    settlement.apply(inode, core.now());
    store_inode(txn, core.fs_tree(), inode);
    return end == kEndOfBlocks;
  });
}

Result<void> shrink(Core& core, const Inode& inode, uint64_t size, const Settlement& settlement) {
  TRY(auto image, cut_block(core, inode, size));
  BlockWriter tail(core, inode.ino, alloc::Urgency::reclaiming);
  if (!image.pieces.empty()) {
    TRY(tail.write(image.pieces));
  }
  for (size_t limit = kExtentsPerSection;; limit /= 2) {
    auto done = cut_section(core, inode.ino, size, tail, limit, settlement);
    if (!done && done.error() == Errc::no_space && limit > 1) continue;
    TRY(done);
    tail.recorded_up_to(kEndOfBlocks);
    if (done.value()) return ok();
    Inode shrunk = inode;
    shrunk.size = size;
    return cut_beyond_size(core, shrunk);
  }
}

/// A full volume may have no block for step 1: then whole blocks are freed first.
Result<void> shrink_or_make_room(Core& core, const Inode& inode, uint64_t size,
                                 const Settlement& settlement) {
  auto result = shrink(core, inode, size, settlement);
  const uint64_t whole = round_up(size, kBlockSize);
  if (result || !(result.error() == Errc::no_space) || whole >= inode.size) return result;
  TRY(shrink(core, inode, whole, settlement));
  TRY(core.transactions.commit());
  TRY(auto now, look_at_file(core, inode.ino));
  return shrink(core, now, size, settlement);
}

}  // namespace

Result<bool> truncate_was_interrupted(Core& core, InodeNumber ino) {
  TRY(auto mark,
      core.transactions.read([&](Access& access) { return load_mark(access, core, ino); }));
  return mark == OrphanKind::truncate;
}

Result<void> before_growth(Core& core, const Inode& inode) {
  TRY(bool interrupted, truncate_was_interrupted(core, inode.ino));
  return interrupted ? cut_beyond_size(core, inode) : ok();
}

Result<void> grow_content(Core& core, InodeNumber ino, uint64_t size) {
  if (size > kMaxFileBytes) return Errc::file_too_large;
  TRY(auto file, lock_file(core, ino, [](const Inode&) {
        return FileRange{0, RangeLocks::kToEnd};
      }));
  if (file.inode.size >= size) return ok();
  if (fits_inline(file.inode, size)) return resize_inline(core, ino, size, {});
  return grow(core, file.inode, size, {});
}

Result<void> truncate_content(Core& core, InodeNumber ino, uint64_t size,
                              const std::function<void(Inode&)>& also) {
  if (size > kMaxFileBytes) return Errc::file_too_large;
  TRY(auto file, lock_file(core, ino, [](const Inode&) {
        return FileRange{0, RangeLocks::kToEnd};
      }));
  Settlement settlement;
  settlement.also = also;
  const Inode& inode = file.inode;
  if (fits_inline(inode, size)) return resize_inline(core, ino, size, settlement);
  if (size > inode.size) return grow(core, inode, size, settlement);
  return shrink_or_make_room(core, inode, size, settlement);
}

Result<void> finish_truncate(Core& core, InodeNumber ino) {
  TRY(auto file, lock_file(core, ino, [](const Inode&) {
        return FileRange{0, RangeLocks::kToEnd};
      }));
  return cut_beyond_size(core, file.inode);
}

Result<void> drop_content(Core& core, InodeNumber ino) {
  const RangeLock lock = core.ranges.exclusive(ino, 0, RangeLocks::kToEnd);
  const Budget budget{1 + InlineRemoval::kItemChanges, alloc::Urgency::reclaiming};
  TRY(core.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, core.fs_tree(), ino));
    InlineRemoval removal(core, inode);
    TRY(removal.prepare(txn));
    removal.apply(txn, inode);
    if (inode.is_regular() || inode.is_symlink()) inode.size = 0;
    store_inode(txn, core.fs_tree(), inode);
    return ok();
  }));
  Settlement settlement;
  settlement.keep_times = true;
  return cut_blocks(core, ino, 0, kEndOfBlocks, settlement);
}

}  // namespace moltfs::fs
