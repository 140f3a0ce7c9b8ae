// SPDX-License-Identifier: MIT
// Which blocks of one chunk are busy and which are frozen; finding runs of free blocks.
//
// A bitmap in pages of 4096 blocks. A page in which all blocks are free, or all are busy, has no
// bits: memory is used only where a chunk is mixed. Pages that nothing has touched since the map
// was made or cleared have no memory at all: a chunk may be much longer than what it holds. Each
// page has an upper bound of its longest free run. The bound rises when blocks come free, and a
// search that finds nothing makes it exact. So searches of a full or fragmented chunk skip the pages
// that cannot help. A run that is found never crosses a page.
//
// The search is next fit: it starts where the last allocation ended.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace moltfs::alloc {

/// Blocks [first, first + count).
struct BlockRun {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
  bool operator==(const BlockRun&) const = default;
};

class BlockMap {
 public:
  static constexpr uint64_t kPageBlocks = 4096;

  /// All blocks are busy. Takes no memory for bits.
  explicit BlockMap(uint64_t size);

  uint64_t size() const { return size_; }
  uint64_t free() const { return free_; }
  /// Free and not frozen.
  uint64_t usable() const { return free_ - frozen_free_; }
  bool busy(uint64_t block) const;
  uint64_t count_free(BlockRun run) const;
  /// No free run within a page is longer. Frozen blocks count as free.
  uint64_t longest_bound() const { return longest_; }

  /// The parts of `run` that are usable.
  std::vector<BlockRun> usable_in(BlockRun run) const;

  void clear_all();
  /// Makes the blocks busy; returns how many were free.
  uint64_t set(BlockRun run);
  /// Makes the blocks free; returns how many were busy.
  uint64_t clear(BlockRun run);

  /// Makes a run of usable blocks busy and returns it: of `wanted` blocks (at most kPageBlocks) if
  /// there is one, else the longest. If that is shorter than `at_least`, changes nothing and
  /// returns an empty run.
  BlockRun take(uint64_t wanted, uint64_t at_least);

  /// Freezes blocks until thaw(id). The same blocks may be frozen by several ids.
  void freeze(uint64_t id, BlockRun run);
  void thaw(uint64_t id);
  bool any_frozen() const { return !freezes_.empty(); }

 private:
  using Bits = std::array<uint64_t, kPageBlocks / 64>;  // 1: busy
  struct Page {
    std::unique_ptr<Bits> bits;  // null: all free or all busy
    uint16_t free = 0;
    uint16_t longest = 0;  // upper bound of the free runs
  };

  using Group = std::unique_ptr<Page[]>;

  uint64_t page_count() const { return (size_ + kPageBlocks - 1) / kPageBlocks; }
  uint64_t blocks_in(uint64_t page) const;
  const Page* find_page(uint64_t page) const;
  Page& make_page(uint64_t page);
  void make_bits(Page& page, uint64_t index);
  uint64_t longest_in(uint64_t page) const;
  uint64_t free_in(uint64_t page, uint64_t from, uint64_t to) const;
  void set_in_page(uint64_t page, uint64_t from, uint64_t to);
  void clear_in_page(uint64_t page, uint64_t from, uint64_t to);
  BlockRun search(uint64_t wanted);
  BlockRun search_page(uint64_t page, uint64_t from, uint64_t wanted) const;
  const BlockRun* frozen_at_or_after(uint64_t block) const;
  bool touches_frozen(BlockRun run) const;
  void merge_freezes();
  void count_frozen_free();

  uint64_t size_;
  unsigned group_shift_ = 6;  // a group has 1 << group_shift_ pages
  // Null, or empty as a whole: all blocks are as untouched_is_free_ says.
  std::vector<Group> groups_;
  bool untouched_is_free_ = false;
  uint64_t free_ = 0;
  uint64_t longest_ = 0;
  uint64_t cursor_ = 0;
  std::vector<std::pair<uint64_t, BlockRun>> freezes_;
  std::vector<BlockRun> frozen_;  // the union of freezes_, sorted; the runs do not touch
  uint64_t frozen_free_ = 0;
};

}  // namespace moltfs::alloc
