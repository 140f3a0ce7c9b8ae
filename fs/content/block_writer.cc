// SPDX-License-Identifier: MIT
// Writing whole blocks: planning, allocating, writing, recording.
#include "fs/content/blocks.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

constexpr size_t kExtentsPerLoad = 64;
constexpr int kAllocationAttempts = 3;
/// Old extents that a section expects when it records preallocated ones.
constexpr size_t kOldExtentsGuess = 8;

}  // namespace

void InodeUpdate::apply(Inode& inode, Time now) const {
  inode.size = std::max(inode.size, size_at_least);
  if (!keep_times) inode.mtime = inode.ctime = now;
  if (also) also(inode);
}

Result<RangeExtents> load_range(Access& access, const FilesystemContext& context, InodeNumber ino,
                                FileRange range) {
  RangeExtents found{range, {}};
  TRY(found.extents,
      extents_in(access, context.fs_tree(), ino, range.first, range.end, kExtentsPerLoad));
  if (found.extents.size() == kExtentsPerLoad) {
    found.range.end = std::min(range.end, found.extents.back().file_end());
  }
  return found;
}

Result<StoredExtents> load_stored(Access& access, const FilesystemContext& context, InodeNumber ino,
                                  FileRange range) {
  TRY(const auto found, load_range(access, context, ino, range));
  StoredExtents stored{found.range, {}};
  for (const Extent& extent : found.extents) {
    if (extent.unwritten) continue;
    TRY(auto part, with_record(access, context.extent_tree(), ino, extent, range.first, range.end));
    stored.extents.push_back(std::move(part));
  }
  return stored;
}

Result<void> visit_extents(FilesystemContext& context, InodeNumber ino, uint64_t first,
                           uint64_t end, const std::function<void(const Extent&)>& visit) {
  while (first < end) {
    TRY(const auto found, context.transactions.read([&](Access& access) {
      return load_range(access, context, ino, {first, end});
    }));
    for (const Extent& extent : found.extents) visit(extent);
    first = found.range.end;
  }
  return ok();
}

Result<void> add_allocated(Inode& inode, uint64_t change) {
  inode.allocated_bytes += change;
  if (inode.allocated_bytes > kMaxFileBytes) {
    return Error(Errc::bad_item, fmt::format("inode {}: more space is freed than it has allocated",
                                             inode.ino.value));
  }
  return ok();
}

namespace {

/// Before a write in place to `part` of the file: each extent there must be what its record says, in
/// a data chunk, and overlap no other one. Else the write would destroy what belongs to others.
/// It reads the extents anew: since the plan was made, a write to other blocks of the same extent
/// may have split it.
Result<void> require_sole_owner(Access& access, const FilesystemContext& context, InodeNumber ino,
                                const Extent& part) {
  const auto not_its_own = [&] {
    return Error(Errc::bad_item, fmt::format("inode {}: its extent at address {} is not its own",
                                             ino.value, part.logical.value));
  };
  const Tree& tree = context.extent_tree();
  const auto map = context.transactions.volume().mapper().current();
  const uint64_t end = part.file_end();
  TRY(const auto extents,
      extents_in(access, context.fs_tree(), ino, part.file_offset, end, part.length / kBlockSize));
  for (const Extent& extent : extents) {
    TRY(with_record(access, tree, ino, extent, extent.file_offset, extent.file_end()));
    const alloc::Chunk* chunk = map->chunk_of(extent.range());
    if (chunk == nullptr || chunk->kind != alloc::ChunkKind::data) return not_its_own();
    bool sole = true;
    // Records that begin earlier are shorter than kMaxExtentBytes.
    const uint64_t before = std::min(extent.logical.value, kMaxExtentBytes);
    const LogicalRange around{extent.logical - before, before + extent.length};
    TRY(visit_records(access, tree, around, [&](const ExtentRecord& record) {
      sole = record.start == extent.logical || record.end() <= extent.logical;
      return sole;
    }));
    if (!sole) return not_its_own();
  }
  return ok();
}

}  // namespace

BlockWriter::~BlockWriter() {
  cancel();
}

/// Gives back the fresh space that has no record.
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

Result<void> BlockWriter::write(std::span<const BlockSpan> spans, const RangeExtents& known) {
  ASSERT(extents_.empty() && !spans.empty());
  std::vector<FileRange> fresh;
  TRY(plan(spans, known, fresh));
  TRY(allocate(fresh, false));
  const auto writes = describe_writes(spans);
  alloc::Volume& volume = context_.transactions.volume();
  guard_ = volume.acquire_map();
  return volume.write_buffered(guard_, writes, ino_.value);
}

Result<void> BlockWriter::preallocate(std::span<const FileRange> holes) {
  ASSERT(extents_.empty());
  old_count_ = kOldExtentsGuess;
  return allocate(holes, true);
}

/// Finds the blocks that can be written in place; the others go to `fresh`.
Result<void> BlockWriter::plan(std::span<const BlockSpan> spans, const RangeExtents& known,
                               std::vector<FileRange>& fresh) {
  const auto add_fresh = [&](uint64_t first, uint64_t end) {
    if (first == end) return;
    if (!fresh.empty() && fresh.back().end == first) {
      fresh.back().end = end;
    } else {
      fresh.push_back({first, end});
    }
  };
  std::vector<Extent> reused;
  for (const BlockSpan& span : spans) {
    const uint64_t first = span.file_offset, end = span.file_end();
    uint64_t reached = first;
    const auto add_old = [&](const Extent& old) {
      ++old_count_;
      if (!old.unwritten) return;
      New added{old.slice(first, end), true};
      added.extent.unwritten = false;
      add_fresh(reached, added.extent.file_offset);
      reached = added.extent.file_end();
      reused.push_back(added.extent);
      extents_.push_back(std::move(added));
    };
    const uint64_t known_end =
        known.range.first <= first ? std::clamp(known.range.end, first, end) : first;
    for (const Extent& old : known.extents) {
      if (old.overlaps(first, known_end)) add_old(old);
    }
    TRY(visit_extents(context_, ino_, known_end, end, add_old));
    add_fresh(reached, end);
  }
  if (reused.empty()) return ok();
  auto checked = context_.transactions.read([&](Access& access) -> Result<bool> {
    for (const Extent& part : reused) {
      TRY(require_sole_owner(access, context_, ino_, part));
    }
    return true;
  });
  return checked ? ok() : Result<void>(checked.error());
}

/// Makes fresh extents for `ranges`. Without space it commits, which may free some, and
/// tries again.
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
    TRY(context_.transactions.commit_and_free());
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

/// Assigns the bytes to the new extents and computes the checksums.
std::vector<alloc::LogicalWrite> BlockWriter::describe_writes(std::span<const BlockSpan> spans) {
  std::vector<alloc::LogicalWrite> writes;
  auto span = spans.begin();
  for (New& added : extents_) {
    Extent& extent = added.extent;
    for (uint64_t at = extent.file_offset; at < extent.file_end();) {
      while (span->file_end() <= at) ++span;
      const uint64_t end = std::min(extent.file_end(), span->file_end());
      const ConstBytes bytes = span->bytes.subspan(at - span->file_offset, end - at);
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

/// The end of the first `limit` new extents from `first` on.
uint64_t BlockWriter::new_extents_end(uint64_t first, size_t limit) const {
  auto at = std::find_if(extents_.begin(), extents_.end(),
                         [&](const New& added) { return added.extent.file_end() > first; });
  const auto left = static_cast<size_t>(extents_.end() - at);
  return (at + static_cast<ptrdiff_t>(std::min(left, limit) - 1))->extent.file_end();
}

Result<void> BlockWriter::record(const InodeUpdate& update) {
  ASSERT(!extents_.empty());
  size_t limit = std::min(kExtentsPerSection, std::max(extents_.size(), old_count_));
  const uint64_t end = extents_.back().extent.file_end();
  for (uint64_t at = extents_.front().extent.file_offset; at < end;) {
    auto reached = record_section(at, limit, update);
    if (!reached && reached.error() == Errc::no_space && limit > 1) {
      limit /= 2;
      continue;
    }
    TRY(reached);
    at = recorded_end_ = reached.value();
  }
  return ok();
}

/// Records at most `limit` new extents from `first` on; returns how far it got.
Result<uint64_t> BlockWriter::record_section(uint64_t first, size_t limit,
                                             const InodeUpdate& update) {
  const uint64_t last_end = extents_.back().extent.file_end();
  // An inline file has no old extents.
  const unsigned others = 1 + (old_count_ == 0 ? InlineRemoval::kItemChanges : 0);
  const Budget budget{others + ExtentChange::item_changes(old_count_ == 0 ? 0 : limit, limit),
                      reserve_class_};
  return context_.transactions.write(budget, [&](Txn& txn) -> Result<uint64_t> {
    const Tree& fs_tree = context_.fs_tree();
    TRY(auto inode, prepare_inode(txn, fs_tree, ino_));
    if (inode.is_inline() && old_count_ > 0) {
      return Error(Errc::bad_item, fmt::format("inode {} has inline data and extents", ino_.value));
    }
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
    InodeUpdate now = update;
    if (end < last_end) now.size_at_least = std::min(update.size_at_least, end);
    now.apply(inode, context_.now());
    store_inode(txn, fs_tree, inode);
    return end;
  });
}

}  // namespace moltfs::fs
