// SPDX-License-Identifier: MIT
// What the operations on content share: locking, composing blocks, cutting.
#include "fs/content/content_parts.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "alloc/base/assert.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

/// True if the file has bytes in `block` that a write of [first, end) does not overwrite.
bool keeps_old_bytes(const Inode& inode, uint64_t block, uint64_t first, uint64_t end) {
  const uint64_t old_end = std::min(block + kBlockSize, inode.size);
  return block < old_end && (block < first || end < old_end);
}

class Composer {
 public:
  Composer(FilesystemContext& context, const Inode& inode, uint64_t at, ConstBytes from,
           EdgeBlocks known)
      : context_(context),
        inode_(inode),
        at_(at),
        end_(at + from.size()),
        from_(from),
        known_(std::move(known)) {}

  Result<WholeBlocks> run() {
    const uint64_t first = round_down(at_, kBlockSize), last = round_up(end_, kBlockSize);
    const uint64_t direct_first = round_up(at_, kBlockSize);
    const uint64_t direct_end = round_down(end_, kBlockSize);
    if (inode_.is_inline() && first > 0) {
      TRY(copy(0, kBlockSize));
    }
    if (direct_first >= direct_end || !is_aligned(from_.data() + (direct_first - at_))) {
      TRY(copy(first, last));
      return std::move(blocks_);
    }
    TRY(copy(first, direct_first));
    blocks_.spans.push_back(
        {direct_first, from_.subspan(direct_first - at_, direct_end - direct_first)});
    TRY(copy(direct_end, last));
    return std::move(blocks_);
  }

 private:
  /// Adds the blocks [first, last) through a buffer.
  Result<void> copy(uint64_t first, uint64_t last) {
    if (first == last) return ok();
    AlignedBuffer buffer(last - first);
    const uint64_t tail = last - kBlockSize;
    TRY(load_old(first, buffer.span().first(kBlockSize)));
    if (tail != first) {
      TRY(load_old(tail, buffer.span().last(kBlockSize)));
    }
    const uint64_t from = std::max(first, at_), to = std::min(last, end_);
    if (from < to) {
      std::memcpy(buffer.data() + (from - first), from_.data() + (from - at_), to - from);
    }
    blocks_.spans.push_back({first, buffer.span()});
    blocks_.buffers.push_back(std::move(buffer));
    return ok();
  }

  /// The old bytes of the block, unless all of them will be overwritten; zeros beyond the file.
  Result<void> load_old(uint64_t block, Bytes into) {
    std::memset(into.data(), 0, into.size());
    if (!keeps_old_bytes(inode_, block, at_, end_)) return ok();
    if (!inode_.is_inline()) {
      auto& known = block == known_.tail.range.first ? known_.tail : known_.head;
      return read_blocks(context_, inode_.ino, block, into, std::exchange(known, {}));
    }
    TRY(auto content, context_.transactions.read(
                          [&](Access& access) { return load_inline(access, context_, inode_); }));
    std::copy(content.begin(), content.end(), into.begin());
    return ok();
  }

  FilesystemContext& context_;
  const Inode& inode_;
  const uint64_t at_, end_;
  const ConstBytes from_;
  EdgeBlocks known_;
  WholeBlocks blocks_;
};

}  // namespace

Result<Inode> load_file(Access& access, const FilesystemContext& context, InodeNumber ino) {
  TRY(auto inode, load_inode(access, context.fs_tree(), ino));
  if (inode.is_directory()) return Errc::is_a_directory;
  if (!inode.is_regular()) return Errc::invalid_argument;
  return inode;
}

Result<Inode> read_file_inode(FilesystemContext& context, InodeNumber ino) {
  return context.transactions.read([&](Access& access) { return load_file(access, context, ino); });
}

Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino) {
  if (context.options.read_only) return Errc::read_only;
  RangeLock lock = context.ranges.exclusive(ino, kWholeFile.first, kWholeFile.end);
  TRY(auto inode, read_file_inode(context, ino));
  return LockedFile{std::move(lock), inode};
}

Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino,
                             const std::function<FileRange(const Inode&)>& range_of) {
  if (context.options.read_only) return Errc::read_only;
  TRY(auto inode, read_file_inode(context, ino));
  for (;;) {
    const FileRange held = range_of(inode);
    RangeLock lock = context.ranges.exclusive(ino, held.first, held.end);
    // The file may have changed before the lock was granted.
    TRY(inode, read_file_inode(context, ino));
    if (held.covers(range_of(inode))) return LockedFile{std::move(lock), inode};
  }
}

FileRange lock_range(const Inode& inode, uint64_t first, uint64_t end) {
  if (inode.size <= kMaxInlineBytes) return kWholeFile;
  if (end > inode.size) return {round_down(first, kBlockSize), RangeLocks::kToEnd};
  return {round_down(first, kBlockSize), round_up(end, kBlockSize)};
}

Result<EdgeBlocks> load_edges(Access& access, const FilesystemContext& context, const Inode& inode,
                              uint64_t first, uint64_t end) {
  EdgeBlocks edges;
  if (inode.is_inline()) return edges;
  const uint64_t head = round_down(first, kBlockSize), tail = round_down(end - 1, kBlockSize);
  if (keeps_old_bytes(inode, head, first, end)) {
    TRY(edges.head, load_stored(access, context, inode.ino, {head, head + kBlockSize}));
  }
  if (tail != head && keeps_old_bytes(inode, tail, first, end)) {
    TRY(edges.tail, load_stored(access, context, inode.ino, {tail, tail + kBlockSize}));
  }
  return edges;
}

Result<WholeBlocks> compose_blocks(FilesystemContext& context, const Inode& inode, uint64_t at,
                                   ConstBytes from, EdgeBlocks known) {
  return Composer(context, inode, at, from, std::move(known)).run();
}

Result<void> convert_inline(FilesystemContext& context, const Inode& inode) {
  TRY(auto blocks, compose_blocks(context, inode, inode.size, {}));
  BlockWriter writer(context, inode.ino);
  TRY(writer.write(blocks.spans));
  InodeUpdate update;
  update.keep_times = true;
  return writer.record(update);
}

Result<void> zero_partial_block(FilesystemContext& context, const Inode& inode, uint64_t first,
                                uint64_t end) {
  static constexpr std::array<std::byte, kBlockSize> kZeros{};
  end = std::min(end, inode.size);
  if (first >= end) return ok();
  bool is_stored = false;
  TRY(visit_extents(context, inode.ino, first, end,
                    [&](const Extent& extent) { is_stored |= !extent.unwritten; }));
  if (!is_stored) return ok();
  TRY(auto blocks, compose_blocks(context, inode, first, ConstBytes(kZeros).first(end - first)));
  BlockWriter writer(context, inode.ino, alloc::ReserveClass::reclaiming);
  TRY(writer.write(blocks.spans));
  return writer.record({});
}

Result<void> update_inode(FilesystemContext& context, InodeNumber ino, const InodeUpdate& update) {
  return context.transactions.write(Budget{1}, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    update.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> cut_blocks(FilesystemContext& context, InodeNumber ino, uint64_t first, uint64_t end,
                        const InodeUpdate& update) {
  size_t limit = kExtentsPerSection;
  while (first < end) {
    const Budget budget{1 + ExtentChange::item_changes(limit, 0), alloc::ReserveClass::reclaiming};
    auto reached = context.transactions.write(budget, [&](Txn& txn) -> Result<uint64_t> {
      TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
      TRY(auto stop, bounded_end(txn, context.fs_tree(), ino, first, end, limit));
      ExtentChange change(context, ino);
      TRY(change.load(txn, first, stop));
      change.cut(first, stop);
      TRY(change.prepare(txn));
      TRY(add_allocated(inode, change.allocated_change()));
      change.apply(txn);
      update.apply(inode, context.now());
      store_inode(txn, context.fs_tree(), inode);
      return stop;
    });
    if (!reached && reached.error() == Errc::no_space && limit > 1) {
      limit /= 2;
      continue;
    }
    TRY(reached);
    first = reached.value();
  }
  return ok();
}

}  // namespace moltfs::fs
