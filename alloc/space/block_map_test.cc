// SPDX-License-Identifier: MIT
// The bitmap against a naive one; speed on a fragmented chunk.
#include "alloc/space/block_map.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <random>

#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

struct Naive {
  std::vector<bool> busy;
  std::map<uint64_t, BlockRun> freezes;

  bool frozen(uint64_t block) const {
    for (const auto& [id, run] : freezes) {
      if (block >= run.first && block < run.end()) return true;
    }
    return false;
  }
  bool usable(uint64_t block) const { return !busy[block] && !frozen(block); }
  /// The longest usable run that crosses no page.
  uint64_t longest() const {
    uint64_t best = 0, run = 0;
    for (uint64_t b = 0; b < busy.size(); ++b) {
      if (b % BlockMap::kPageBlocks == 0) run = 0;
      run = usable(b) ? run + 1 : 0;
      best = std::max(best, run);
    }
    return best;
  }
};

TEST_CASE("a map is all busy at first and all free after clear_all") {
  BlockMap map(10000);
  CHECK(map.free() == 0);
  CHECK(map.busy(9999));
  CHECK(map.take(1, 1) == BlockRun());
  map.clear_all();
  CHECK(map.free() == 10000);
  CHECK_FALSE(map.busy(9999));
  CHECK(map.longest_bound() == BlockMap::kPageBlocks);
}

TEST_CASE("usable_in gives the usable parts of a run") {
  BlockMap map(2 * BlockMap::kPageBlocks);
  CHECK(map.usable_in({0, map.size()}).empty());
  map.clear_all();
  CHECK(map.usable_in({10, 20}) == std::vector<BlockRun>{{10, 20}});
  CHECK(map.usable_in({4000, 200}) == std::vector<BlockRun>{{4000, 200}});  // across a page
  map.set({12, 3});
  map.freeze(1, {20, 5});
  map.freeze(2, {23, 4});
  CHECK(map.usable_in({10, 20}) == std::vector<BlockRun>{{10, 2}, {15, 5}, {27, 3}});
  CHECK(map.usable_in({21, 4}).empty());
  map.thaw(1);
  CHECK(map.usable_in({10, 20}) == std::vector<BlockRun>{{10, 2}, {15, 8}, {27, 3}});
}

TEST_CASE("runs are taken next fit and never cross a page") {
  BlockMap map(3 * BlockMap::kPageBlocks);
  map.clear_all();
  CHECK(map.take(256, 1) == BlockRun{0, 256});
  CHECK(map.take(256, 1) == BlockRun{256, 256});
  map.clear({0, 256});
  CHECK(map.take(BlockMap::kPageBlocks, BlockMap::kPageBlocks) ==
        BlockRun{BlockMap::kPageBlocks, BlockMap::kPageBlocks});
  CHECK(map.take(BlockMap::kPageBlocks, 1) ==
        BlockRun{2 * BlockMap::kPageBlocks, BlockMap::kPageBlocks});
  CHECK(map.take(4000, 1) == BlockRun{512, BlockMap::kPageBlocks - 512});
  CHECK(map.take(300, 257) == BlockRun());
  CHECK(map.take(300, 256) == BlockRun{0, 256});
  CHECK(map.free() == 0);
}

TEST_CASE("random changes agree with a naive map") {
  const uint64_t seed = GENERATE(1, 2, 3, 4);
  std::mt19937_64 random(seed);
  const uint64_t size = 2 * BlockMap::kPageBlocks + 300;
  BlockMap map(size);
  Naive naive{std::vector<bool>(size, false), {}};
  map.clear_all();
  auto below = [&](uint64_t n) { return random() % n; };
  uint64_t id = 0;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t first = below(size);
    const BlockRun run{first, 1 + below(std::min<uint64_t>(size - first, below(8) ? 40 : 5000))};
    switch (below(5)) {
      case 0: {
        uint64_t freed = 0;
        for (uint64_t b = run.first; b < run.end(); ++b) {
          freed += naive.busy[b];
          naive.busy[b] = false;
        }
        REQUIRE(map.clear(run) == freed);
        break;
      }
      case 1: {
        uint64_t taken = 0;
        for (uint64_t b = run.first; b < run.end(); ++b) {
          taken += !naive.busy[b];
          naive.busy[b] = true;
        }
        REQUIRE(map.set(run) == taken);
        break;
      }
      case 2:
        if (naive.freezes.size() < 4) {
          map.freeze(++id, run);
          naive.freezes[id] = run;
        } else {
          map.thaw(naive.freezes.begin()->first);
          naive.freezes.erase(naive.freezes.begin());
        }
        break;
      default: {
        const uint64_t wanted = 1 + below(below(4) ? 64 : 2000);
        const uint64_t at_least = 1 + below(wanted);
        const uint64_t possible = std::min(naive.longest(), wanted);
        const BlockRun got = map.take(wanted, at_least);
        // The search begins at the cursor, so any run of the wanted length may be found. But a
        // shorter run than the longest is never returned instead of it.
        REQUIRE(got.count == (possible >= at_least ? possible : 0));
        for (uint64_t b = got.first; b < got.end(); ++b) {
          REQUIRE(naive.usable(b));
          naive.busy[b] = true;
        }
      }
    }
    if (step % 50 == 0) {
      uint64_t free = 0, usable = 0;
      for (uint64_t b = 0; b < size; ++b) {
        REQUIRE(map.busy(b) == naive.busy[b]);
        free += !naive.busy[b];
        usable += naive.usable(b);
      }
      REQUIRE(map.free() == free);
      REQUIRE(map.usable() == usable);
      REQUIRE(map.count_free({100, 5000}) ==
              static_cast<uint64_t>(
                  std::count(naive.busy.begin() + 100, naive.busy.begin() + 5100, false)));
      REQUIRE(map.longest_bound() >= std::min<uint64_t>(naive.longest(), size));
    }
  }
}

TEST_CASE("a fragmented chunk of 16 GiB is searched quickly") {
  const uint64_t size = uint64_t{16} << 18;
  BlockMap map(size);
  map.clear_all();
  for (uint64_t b = 0; b < size; b += 2) map.set({b, 1});
  for (uint64_t b = 1; b < size; b += 1000) map.clear({b, 3});
  const std::clock_t start = std::clock();
  uint64_t taken = 0;
  for (int i = 0; i < 20000; ++i) taken += map.take(256, 1).count;
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK(taken > 20000);
  CHECK(seconds < 10);  // CPU time; if each search covered the whole chunk it would be minutes
}

TEST_CASE("a chunk of 2 EiB takes memory only where something was touched") {
  // 2^49 blocks: with one entry for each page it would be terabytes.
  const uint64_t size = uint64_t{1} << 49;
  BlockMap map(size);
  CHECK(map.free() == 0);
  map.clear_all();
  CHECK(map.free() == size);
  CHECK(map.longest_bound() == BlockMap::kPageBlocks);
  CHECK(map.set({size - 5, 5}) == 5);
  CHECK(map.busy(size - 1));
  CHECK_FALSE(map.busy(size - 6));
  CHECK(map.take(100, 1) == BlockRun{0, 100});
  CHECK(map.clear({size - 5, 2}) == 2);
  CHECK(map.free() == size - 103);
  CHECK(map.count_free({size - 6, 6}) == 3);
}

}  // namespace
}  // namespace moltfs::alloc
