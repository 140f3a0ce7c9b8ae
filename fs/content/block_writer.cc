// SPDX-License-Identifier: MIT
// Storing whole blocks: planning, allocation, the write itself, and recording it.
#include "fs/content/blocks.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

constexpr size_t kExtentsPerVisit = 64;
constexpr int kAllocationAttempts = 3;
/// Old extents that a section reckons with that records preallocated ones.
constexpr size_t kOldExtentsGuess = 8;

}  // namespace

void Settlement::apply(Inode& inode, Time now) const {
  inode.size = std::max(inode.size, size_at_least);
  if (!keep_times) inode.mtime = inode.ctime = now;
  if (also) also(inode);
}

Result<void> visit_extents(FilesystemContext& context, InodeNumber ino, uint64_t first,
                           uint64_t end, const std::function<void(const Extent&)>& visit) {
  while (first < end) {
    TRY(auto extents, context.transactions.read([&](Access& access) {
      return extents_in(access, context.fs_tree(), ino, first, end, kExtentsPerVisit);
    }));
    for (const Extent& extent : extents) visit(extent);
    if (extents.size() < kExtentsPerVisit) break;
    first = extents.back().file_end();
  }
  return ok();
}

Result<void> add_allocated(Inode& inode, uint64_t change) {
  inode.allocated_bytes += change;
  if (inode.allocated_bytes > kMaxFileBytes) {
    return Error(Errc::bad_item,
                 fmt::format("inode {}: more was allocated than it says", inode.ino.value));
  }
  return ok();
}

BlockWriter::~BlockWriter() {
  cancel();
}

/// Gives back the fresh space that no record names.
void BlockWriter::cancel() {
  alloc::Space& space = context_.transactions.volume().space();
  for (const New& added : extents_) {
    const Extent& extent = added.extent;
    if (added.in_place || extent.file_end() <= recorded_end_) continue;
    const uint64_t from = std::max(extent.file_offset, recorded_end_);
    space.cancel_data({extent.logical + (from - extent.file_offset), extent.file_end() - from});
  }
  extents_.clear();
}

Result<void> BlockWriter::write(std::span<const Piece> pieces) {
  ASSERT(extents_.empty() && !pieces.empty());
  std::vector<FileRange> fresh;
  TRY(plan(pieces, fresh));
  TRY(allocate(fresh, false));
  const auto writes = describe_writes(pieces);
  alloc::Volume& volume = context_.transactions.volume();
  guard_ = volume.acquire_map();
  return volume.write_later(guard_, writes, ino_.value);
}

Result<void> BlockWriter::preallocate(std::span<const FileRange> holes) {
  ASSERT(extents_.empty());
  old_count_ = kOldExtentsGuess;
  return allocate(holes, true);
}

/// Finds what can be written in place; the rest is `fresh`.
Result<void> BlockWriter::plan(std::span<const Piece> pieces, std::vector<FileRange>& fresh) {
  const auto add_fresh = [&](uint64_t first, uint64_t end) {
    if (first == end) return;
    if (!fresh.empty() && fresh.back().end == first) {
      fresh.back().end = end;
    } else {
      fresh.push_back({first, end});
    }
  };
  for (const Piece& piece : pieces) {
    uint64_t reached = piece.file_offset;
    TRY(visit_extents(context_, ino_, piece.file_offset, piece.file_end(), [&](const Extent& old) {
      ++old_count_;
      if (!old.unwritten) return;
      New added{old.slice(piece.file_offset, piece.file_end()), true};
      added.extent.unwritten = false;
      add_fresh(reached, added.extent.file_offset);
      reached = added.extent.file_end();
      extents_.push_back(std::move(added));
    }));
    add_fresh(reached, piece.file_end());
  }
  return ok();
}

/// Fresh extents for `ranges`. A commit may free space: so it is tried again after one.
Result<void> BlockWriter::allocate(std::span<const FileRange> ranges, bool unwritten) {
  const size_t in_place_count = extents_.size();
  for (int attempt = 1;; ++attempt) {
    auto result = try_allocate(ranges, unwritten);
    if (result) break;
    alloc::Space& space = context_.transactions.volume().space();
    for (; extents_.size() > in_place_count; extents_.pop_back()) {
      space.cancel_data(extents_.back().extent.range());
    }
    const bool may_help = result.error() == Errc::no_space && space.pinned_bytes() > 0;
    if (!may_help || attempt == kAllocationAttempts) return result;
    TRY(context_.transactions.commit());
  }
  std::sort(extents_.begin(), extents_.end(),
            [](const New& a, const New& b) { return a.extent.file_offset < b.extent.file_offset; });
  return ok();
}

Result<void> BlockWriter::try_allocate(std::span<const FileRange> ranges, bool unwritten) {
  if (ranges.empty()) return ok();
  const Generation running = context_.transactions.running();
  for (const FileRange& range : ranges) {
    for (uint64_t at = range.first; at < range.end;) {
      const uint64_t wanted = std::min(range.end - at, kMaxExtentBytes);
      TRY(auto got,
          context_.transactions.volume().space().allocate_data(wanted, running, reserve_class_));
      New added;
      added.extent.file_offset = at;
      added.extent.logical = got.start;
      added.extent.length = got.length;
      added.extent.unwritten = unwritten;
      at += got.length;
      extents_.push_back(std::move(added));
    }
  }
  return ok();
}

/// Which bytes go where; fills in the checksums.
std::vector<alloc::LogicalWrite> BlockWriter::describe_writes(std::span<const Piece> pieces) {
  std::vector<alloc::LogicalWrite> writes;
  auto piece = pieces.begin();
  for (New& added : extents_) {
    Extent& extent = added.extent;
    for (uint64_t at = extent.file_offset; at < extent.file_end();) {
      while (piece->file_end() <= at) ++piece;
      const uint64_t end = std::min(extent.file_end(), piece->file_end());
      const ConstBytes bytes = piece->bytes.subspan(at - piece->file_offset, end - at);
      writes.push_back({extent.logical + (at - extent.file_offset), bytes});
      for (uint64_t i = 0; i < bytes.size(); i += kBlockSize) {
        extent.checksums.push_back(checksum_of(bytes.subspan(i, kBlockSize)));
      }
      at = end;
    }
  }
  return writes;
}

Result<void> BlockWriter::put_into(ExtentChange& change, Generation running, uint64_t first,
                                   uint64_t end) {
  for (const New& added : extents_) {
    if (!added.extent.overlaps(first, end)) continue;
    Extent part = added.extent.slice(first, end);
    part.birth = running;
    if (added.in_place) {
      TRY(change.write_in_place(part));
    } else {
      change.put(part);
    }
  }
  return ok();
}

/// Where the first `limit` new extents from `first` on end.
uint64_t BlockWriter::new_extents_end(uint64_t first, size_t limit) const {
  auto at = std::find_if(extents_.begin(), extents_.end(),
                         [&](const New& added) { return added.extent.file_end() > first; });
  const auto left = static_cast<size_t>(extents_.end() - at);
  return (at + static_cast<ptrdiff_t>(std::min(left, limit) - 1))->extent.file_end();
}

Result<void> BlockWriter::record(const Settlement& settlement) {
  ASSERT(!extents_.empty());
  size_t limit = std::min(kExtentsPerSection, std::max(extents_.size(), old_count_));
  const uint64_t end = extents_.back().extent.file_end();
  for (uint64_t at = extents_.front().extent.file_offset; at < end;) {
    auto reached = record_section(at, limit, settlement);
    if (!reached && reached.error() == Errc::no_space && limit > 1) {
      limit /= 2;
      continue;
    }
    TRY(reached);
    at = recorded_end_ = reached.value();
  }
  return ok();
}

/// Records what it can of [first, end of the new extents); how far it came.
Result<uint64_t> BlockWriter::record_section(uint64_t first, size_t limit,
                                             const Settlement& settlement) {
  const uint64_t last_end = extents_.back().extent.file_end();
  // An inline file has no old extents.
  const unsigned others = 1 + (old_count_ == 0 ? InlineRemoval::kItemChanges : 0);
  const Budget budget{others + ExtentChange::item_changes(old_count_ == 0 ? 0 : limit, limit),
                      reserve_class_};
  return context_.transactions.write(budget, [&](Txn& txn) -> Result<uint64_t> {
    const Tree& fs_tree = context_.fs_tree();
    TRY(auto inode, prepare_inode(txn, fs_tree, ino_));
    TRY(auto end, bounded_end(txn, fs_tree, ino_, first, new_extents_end(first, limit), limit));
    ExtentChange change(context_, ino_);
    TRY(change.load(txn, first, end));
    TRY(put_into(change, txn.running(), first, end));
    InlineRemoval inline_removal(context_, inode);
    TRY(inline_removal.prepare(txn));
    TRY(change.prepare(txn));
    TRY(add_allocated(inode, change.allocated_change()));

    change.apply(txn);
    inline_removal.apply(txn, inode);
    Settlement now = settlement;
    if (end < last_end) now.size_at_least = std::min(settlement.size_at_least, end);
    now.apply(inode, context_.now());
    store_inode(txn, fs_tree, inode);
    return end;
  });
}

}  // namespace moltfs::fs
