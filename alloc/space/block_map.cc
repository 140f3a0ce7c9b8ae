// SPDX-License-Identifier: MIT
// The bitmap of one chunk.
#include "alloc/space/block_map.h"

#include <algorithm>
#include <bit>

#include "alloc/base/assert.h"
#include "alloc/base/strong_types.h"

namespace moltfs::alloc {
namespace {

/// A word with the bits [from, to) set, 0 <= from < to <= 64.
uint64_t mask_of(uint64_t from, uint64_t to) {
  return (~uint64_t{0} >> (64 - (to - from))) << from;
}

/// Calls visit(word index, mask) for each word that has some of the bits [from, to).
template <class Visit>
void for_each_word(uint64_t from, uint64_t to, Visit visit) {
  while (from < to) {
    const uint64_t word = from / 64;
    const uint64_t stop = std::min(to, (word + 1) * 64);
    visit(word, mask_of(from % 64, stop - word * 64));
    from = stop;
  }
}

/// The first bit in [from, to) that is 1 in `words ^ flip`; `to` if there is none.
template <class Words>
uint64_t next_one(const Words& words, uint64_t flip, uint64_t from, uint64_t to) {
  if (from >= to) return to;
  uint64_t word = from / 64;
  uint64_t bits = (words[word] ^ flip) & (~uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word * 64 >= to) return to;
    bits = words[word] ^ flip;
  }
  return std::min(to, word * 64 + static_cast<uint64_t>(std::countr_zero(bits)));
}

/// One past the last 1 before `from`; 0 if there is none.
template <class Words>
uint64_t after_last_one(const Words& words, uint64_t from) {
  while (from > 0) {
    const uint64_t word = (from - 1) / 64;
    const uint64_t bits = words[word] & mask_of(0, from - word * 64);
    if (bits != 0) return word * 64 + 64 - static_cast<uint64_t>(std::countl_zero(bits));
    from = word * 64;
  }
  return 0;
}

constexpr uint64_t kAllOnes = ~uint64_t{0};

}  // namespace

BlockMap::BlockMap(uint64_t size) : size_(size) {
  // Groups have 64 pages. In a chunk of more than 64 TiB there would be too many groups, so they have
  // more.
  constexpr uint64_t kMostGroups = 65536;
  while (page_count() >> group_shift_ > kMostGroups) ++group_shift_;
}

uint64_t BlockMap::blocks_in(uint64_t page) const {
  return std::min(kPageBlocks, size_ - page * kPageBlocks);
}

/// Null: nothing has touched it.
const BlockMap::Page* BlockMap::find_page(uint64_t page) const {
  if (groups_.empty()) return nullptr;
  const Group& group = groups_[page >> group_shift_];
  return group ? &group[page & ((uint64_t{1} << group_shift_) - 1)] : nullptr;
}

BlockMap::Page& BlockMap::make_page(uint64_t page) {
  const uint64_t group_pages = uint64_t{1} << group_shift_;
  if (groups_.empty()) groups_.resize((page_count() + group_pages - 1) / group_pages);
  Group& group = groups_[page / group_pages];
  const uint64_t first = round_down(page, group_pages);
  if (!group) {
    group = std::make_unique<Page[]>(group_pages);
    const uint64_t end = std::min(first + group_pages, page_count());
    for (uint64_t i = first; untouched_is_free_ && i < end; ++i) {
      Page& made = group[i - first];
      made.free = made.longest = static_cast<uint16_t>(blocks_in(i));
    }
  }
  return group[page - first];
}

void BlockMap::make_bits(Page& page, uint64_t index) {
  if (page.bits) return;
  page.bits = std::make_unique<Bits>();
  page.bits->fill(page.free == 0 ? kAllOnes : 0);
  // Blocks beyond the end of the chunk stay busy.
  for_each_word(blocks_in(index), kPageBlocks,
                [&](uint64_t w, uint64_t m) { (*page.bits)[w] |= m; });
}

uint64_t BlockMap::longest_in(uint64_t page) const {
  if (const Page* touched = find_page(page)) return touched->longest;
  return untouched_is_free_ ? blocks_in(page) : 0;
}

bool BlockMap::busy(uint64_t block) const {
  ASSERT(block < size_);
  const Page* page = find_page(block / kPageBlocks);
  if (!page) return !untouched_is_free_;
  if (!page->bits) return page->free == 0;
  const uint64_t bit = block % kPageBlocks;
  return (*page->bits)[bit / 64] >> (bit % 64) & 1;
}

uint64_t BlockMap::free_in(uint64_t page, uint64_t from, uint64_t to) const {
  const Page* touched = find_page(page);
  if (!touched) return untouched_is_free_ ? to - from : 0;
  if (!touched->bits) return touched->free == 0 ? 0 : to - from;
  uint64_t count = 0;
  for_each_word(from, to, [&](uint64_t w, uint64_t m) {
    count += static_cast<uint64_t>(std::popcount(~(*touched->bits)[w] & m));
  });
  return count;
}

uint64_t BlockMap::count_free(BlockRun run) const {
  ASSERT(run.end() <= size_);
  uint64_t count = 0;
  for (uint64_t at = run.first; at < run.end();) {
    const uint64_t page = at / kPageBlocks;
    const uint64_t stop = std::min(run.end(), (page + 1) * kPageBlocks);
    count += free_in(page, at - page * kPageBlocks, stop - page * kPageBlocks);
    at = stop;
  }
  return count;
}

void BlockMap::clear_all() {
  groups_.clear();
  untouched_is_free_ = true;
  free_ = size_;
  longest_ = size_ == 0 ? 0 : blocks_in(0);
  count_frozen_free();
}

void BlockMap::set_in_page(uint64_t page, uint64_t from, uint64_t to) {
  const uint64_t changed = free_in(page, from, to);
  if (changed == 0) return;
  Page& p = make_page(page);
  free_ -= changed;
  if (changed == p.free) {
    p = Page();
    return;
  }
  make_bits(p, page);
  for_each_word(from, to, [&](uint64_t w, uint64_t m) { (*p.bits)[w] |= m; });
  p.free = static_cast<uint16_t>(p.free - changed);
  p.longest = std::min(p.longest, p.free);
}

void BlockMap::clear_in_page(uint64_t page, uint64_t from, uint64_t to) {
  const uint64_t changed = to - from - free_in(page, from, to);
  if (changed == 0) return;
  Page& p = make_page(page);
  free_ += changed;
  if (p.free + changed == blocks_in(page)) {
    p.bits.reset();
    p.free = p.longest = static_cast<uint16_t>(blocks_in(page));
  } else {
    make_bits(p, page);
    for_each_word(from, to, [&](uint64_t w, uint64_t m) { (*p.bits)[w] &= ~m; });
    p.free = static_cast<uint16_t>(p.free + changed);
    const uint64_t run = next_one(*p.bits, 0, to, blocks_in(page)) - after_last_one(*p.bits, from);
    p.longest = std::max(p.longest, static_cast<uint16_t>(run));
  }
  longest_ = std::max<uint64_t>(longest_, p.longest);
}

uint64_t BlockMap::set(BlockRun run) {
  ASSERT(run.end() <= size_);
  const uint64_t before = free_;
  for (uint64_t at = run.first; at < run.end();) {
    const uint64_t page = at / kPageBlocks;
    const uint64_t stop = std::min(run.end(), (page + 1) * kPageBlocks);
    set_in_page(page, at - page * kPageBlocks, stop - page * kPageBlocks);
    at = stop;
  }
  if (touches_frozen(run)) count_frozen_free();
  return before - free_;
}

uint64_t BlockMap::clear(BlockRun run) {
  ASSERT(run.end() <= size_);
  const uint64_t before = free_;
  for (uint64_t at = run.first; at < run.end();) {
    const uint64_t page = at / kPageBlocks;
    const uint64_t stop = std::min(run.end(), (page + 1) * kPageBlocks);
    clear_in_page(page, at - page * kPageBlocks, stop - page * kPageBlocks);
    at = stop;
  }
  if (touches_frozen(run)) count_frozen_free();
  return free_ - before;
}

BlockRun BlockMap::take(uint64_t wanted, uint64_t at_least) {
  ASSERT(at_least >= 1 && at_least <= wanted && wanted <= kPageBlocks);
  if (longest_ < at_least || usable() < at_least) return {};
  const BlockRun run = search(wanted);
  if (run.count < at_least) return {};
  set(run);
  cursor_ = run.end() == size_ ? 0 : run.end();
  return run;
}

BlockRun BlockMap::search(uint64_t wanted) {
  BlockRun best;
  const uint64_t start = cursor_ / kPageBlocks;
  // The page of the cursor comes first, from the cursor on, and again last, as a whole.
  const uint64_t pages = page_count();
  for (uint64_t i = 0; i <= pages; ++i) {
    const uint64_t index = (start + i) % pages;
    if (longest_in(index) <= best.count) continue;
    const BlockRun run = search_page(index, i == 0 ? cursor_ % kPageBlocks : 0, wanted);
    if (run.count >= wanted) return run;
    const bool is_exact = i > 0 && !touches_frozen({index * kPageBlocks, blocks_in(index)});
    if (is_exact && run.count < longest_in(index)) {
      make_page(index).longest = static_cast<uint16_t>(run.count);
    }
    if (run.count > best.count) best = run;
  }
  longest_ = 0;
  for (uint64_t i = 0; i < pages && longest_ < kPageBlocks; ++i) {
    longest_ = std::max(longest_, longest_in(i));
  }
  return best;
}

BlockRun BlockMap::search_page(uint64_t page, uint64_t from, uint64_t wanted) const {
  static constexpr Bits kNone{};
  const Page* p = find_page(page);
  const uint64_t base = page * kPageBlocks;
  const uint64_t end = blocks_in(page);
  BlockRun best;
  if (p ? p->free == 0 : !untouched_is_free_) return best;
  const Bits& bits = p && p->bits ? *p->bits : kNone;
  for (uint64_t at = from; at < end;) {
    const uint64_t first = next_one(bits, kAllOnes, at, end);
    if (first == end) break;
    const BlockRun* frozen = frozen_at_or_after(base + first);
    if (frozen && frozen->first <= base + first) {
      at = frozen->end() - base;
      continue;
    }
    uint64_t limit = std::min(end, first + wanted);
    if (frozen) limit = std::min(limit, frozen->first - base);
    const uint64_t stop = next_one(bits, 0, first, limit);
    if (stop - first > best.count) best = {base + first, stop - first};
    if (best.count >= wanted) break;
    at = stop;
  }
  return best;
}

std::vector<BlockRun> BlockMap::usable_in(BlockRun run) const {
  std::vector<BlockRun> runs;
  for (uint64_t block = run.first; block < run.end();) {
    const BlockRun* frozen = frozen_at_or_after(block);
    if (frozen && frozen->first <= block) {
      block = frozen->end();
      continue;
    }
    const uint64_t limit = frozen ? std::min(run.end(), frozen->first) : run.end();
    const uint64_t first = block;
    while (block < limit && !busy(block)) ++block;
    if (block > first) runs.push_back({first, block - first});
    while (block < limit && busy(block)) ++block;
  }
  return runs;
}

/// The first frozen run that ends after `block`; null if there is none.
const BlockRun* BlockMap::frozen_at_or_after(uint64_t block) const {
  auto run = std::upper_bound(frozen_.begin(), frozen_.end(), block,
                              [](uint64_t b, const BlockRun& r) { return b < r.end(); });
  return run == frozen_.end() ? nullptr : &*run;
}

bool BlockMap::touches_frozen(BlockRun run) const {
  const BlockRun* frozen = frozen_at_or_after(run.first);
  return frozen && frozen->first < run.end();
}

void BlockMap::freeze(uint64_t id, BlockRun run) {
  ASSERT(run.end() <= size_);
  freezes_.emplace_back(id, run);
  merge_freezes();
}

void BlockMap::thaw(uint64_t id) {
  std::erase_if(freezes_, [&](const auto& freeze) { return freeze.first == id; });
  merge_freezes();
}

void BlockMap::merge_freezes() {
  std::vector<BlockRun> runs;
  for (const auto& [id, run] : freezes_) {
    if (run.count > 0) runs.push_back(run);
  }
  std::sort(runs.begin(), runs.end(), [](auto& a, auto& b) { return a.first < b.first; });
  frozen_.clear();
  for (const BlockRun& run : runs) {
    if (!frozen_.empty() && run.first <= frozen_.back().end()) {
      frozen_.back().count = std::max(frozen_.back().end(), run.end()) - frozen_.back().first;
    } else {
      frozen_.push_back(run);
    }
  }
  count_frozen_free();
}

void BlockMap::count_frozen_free() {
  frozen_free_ = 0;
  for (const BlockRun& run : frozen_) frozen_free_ += count_free(run);
}

}  // namespace moltfs::alloc
