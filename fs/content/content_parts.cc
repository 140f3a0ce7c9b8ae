// SPDX-License-Identifier: MIT
// What the operations on content share: looking, locking, composing blocks, cutting.
#include "fs/content/content_parts.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "alloc/base/assert.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

class Composer {
 public:
  Composer(FilesystemContext& context, const Inode& inode, uint64_t at, ConstBytes from)
      : context_(context), inode_(inode), at_(at), end_(at + from.size()), from_(from) {}

  Result<WholeBlocks> run() {
    const uint64_t first = round_down(at_, kBlockSize), last = round_up(end_, kBlockSize);
    const uint64_t direct_first = round_up(at_, kBlockSize);
    const uint64_t direct_end = round_down(end_, kBlockSize);
    if (inode_.is_inline() && first > 0) {
      TRY(copy(0, kBlockSize));
    }
    if (direct_first >= direct_end || !is_aligned(from_.data() + (direct_first - at_))) {
      TRY(copy(first, last));
      return std::move(image_);
    }
    TRY(copy(first, direct_first));
    image_.pieces.push_back(
        {direct_first, from_.subspan(direct_first - at_, direct_end - direct_first)});
    TRY(copy(direct_end, last));
    return std::move(image_);
  }

 private:
  /// Adds the blocks [first, last) by way of a buffer.
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
    image_.pieces.push_back({first, buffer.span()});
    image_.buffers.push_back(std::move(buffer));
    return ok();
  }

  /// What the file has in the block, as far as it is not overwritten anyway; else zeros.
  Result<void> load_old(uint64_t block, Bytes into) {
    std::memset(into.data(), 0, into.size());
    const uint64_t old_end = std::min(block + kBlockSize, inode_.size);
    if (block >= old_end || (at_ <= block && old_end <= end_)) return ok();
    if (!inode_.is_inline()) return read_blocks(context_, inode_.ino, block, into);
    TRY(auto content, context_.transactions.read(
                          [&](Access& access) { return load_inline(access, context_, inode_); }));
    std::copy(content.begin(), content.end(), into.begin());
    return ok();
  }

  FilesystemContext& context_;
  const Inode& inode_;
  const uint64_t at_, end_;
  const ConstBytes from_;
  WholeBlocks image_;
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

Result<LockedFile> lock_file(FilesystemContext& context, InodeNumber ino,
                             const std::function<FileRange(const Inode&)>& range_of) {
  if (context.options.read_only) return Errc::read_only;
  for (;;) {
    TRY(auto seen, read_file_inode(context, ino));
    const FileRange held = range_of(seen);
    RangeLock lock = context.ranges.exclusive(ino, held.first, held.end);
    // The file may have changed while we waited for the lock.
    TRY(auto inode, read_file_inode(context, ino));
    const FileRange needed = range_of(inode);
    if (held.first <= needed.first && needed.end <= held.end) {
      return LockedFile{std::move(lock), inode};
    }
  }
}

FileRange lock_range(const Inode& inode, uint64_t first, uint64_t end) {
  if (inode.size <= kMaxInlineBytes) return {0, RangeLocks::kToEnd};
  if (end > inode.size) return {round_down(first, kBlockSize), RangeLocks::kToEnd};
  return {round_down(first, kBlockSize), round_up(end, kBlockSize)};
}

Result<WholeBlocks> compose_blocks(FilesystemContext& context, const Inode& inode, uint64_t at,
                                   ConstBytes from) {
  return Composer(context, inode, at, from).run();
}

Result<void> convert_inline(FilesystemContext& context, const Inode& inode) {
  TRY(auto image, compose_blocks(context, inode, inode.size, {}));
  BlockWriter writer(context, inode.ino);
  TRY(writer.write(image.pieces));
  Settlement settlement;
  settlement.keep_times = true;
  return writer.record(settlement);
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
  TRY(auto image, compose_blocks(context, inode, first, ConstBytes(kZeros).first(end - first)));
  BlockWriter writer(context, inode.ino, alloc::ReserveClass::reclaiming);
  TRY(writer.write(image.pieces));
  return writer.record({});
}

Result<void> settle(FilesystemContext& context, InodeNumber ino, const Settlement& settlement) {
  return context.transactions.write(Budget{1}, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    settlement.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> cut_blocks(FilesystemContext& context, InodeNumber ino, uint64_t first, uint64_t end,
                        const Settlement& settlement) {
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
      settlement.apply(inode, context.now());
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
