// SPDX-License-Identifier: MIT
// Trees against std::map: random, ascending and descending changes, small caches, shrinking.
#include "fs/tree/tree.h"

#include <algorithm>
#include <random>

#include "fs/tree/tree_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

std::string value_in_round(uint64_t n, uint64_t round = 0) {
  return std::to_string(n) +
         std::string((n * 31 + round * 17) % 120, static_cast<char>('a' + round % 26));
}

/// at_or_after and at_or_before, from memory or not.
void compare_neighbours(TestTrees& t, const TestTrees::Model& model, const Key& key) {
  const auto read = [&](auto lookup) {
    auto found = t.transactions->read(
        [&](Access& access) -> Result<std::optional<std::pair<Key, std::string>>> {
          TRY(auto item, lookup(access));
          if (!item) return std::nullopt;
          return std::optional(std::pair(item->key, text_of(item->value)));
        });
    REQUIRE(found);
    return found.value();
  };
  auto after = read([&](Access& a) { return t.tree().at_or_after(a, key); });
  auto next = model.lower_bound(key);
  REQUIRE(after.has_value() == (next != model.end()));
  if (after) REQUIRE((after->first == next->first && after->second == next->second));

  auto before = read([&](Access& a) { return t.tree().at_or_before(a, key); });
  auto previous = model.upper_bound(key);
  REQUIRE(before.has_value() == (previous != model.begin()));
  if (before) {
    --previous;
    REQUIRE((before->first == previous->first && before->second == previous->second));
  }
}

}  // namespace

TEST_CASE("an empty tree has one empty leaf") {
  TestTrees t(64 * kMiB);
  REQUIRE(t.shape().levels == 1);
  REQUIRE(t.content().empty());
  REQUIRE(!t.get(5).value());
  compare_neighbours(t, {}, test_key(7));
}

TEST_CASE("random changes give the same as on a map, with a cache far smaller than the tree") {
  // The second time with long values: three levels.
  const uint64_t seed = GENERATE(1, 2);
  TestTrees t(256 * kMiB, {.cache_bytes = 40 * kNodeSize, .dirty_limit_bytes = 8 * kNodeSize});
  std::mt19937_64 random(seed);
  TestTrees::Model model;
  const uint64_t keys = seed == 1 ? 20000 : 5000;
  for (uint64_t step = 0; step < 30000; ++step) {
    const uint64_t n = random() % keys;
    const Key key = test_key(n);
    const bool shrinking = (step / 10000) % 2 == 1;
    if (model.count(key) > 0 && random() % 4 < (shrinking ? 4u : 1u)) {
      REQUIRE(t.erase(n));
      model.erase(key);
    } else if (!shrinking || random() % 4 == 0) {
      std::string value = value_in_round(n, random() % 5);
      if (random() % (seed == 1 ? 64 : 2) == 0) value.resize(kMaxItemBytes, 'L');
      REQUIRE(t.put(n, value));
      model[key] = value;
    }
    if (step % 97 == 0) compare_neighbours(t, model, test_key(random() % keys));
    if (step % 3000 == 0) t.commit();
    if (step % 5000 == 2500) {
      t.commit();
      t.reopen();
    }
  }
  REQUIRE(t.content() == model);
  const auto shape = t.shape();
  REQUIRE(shape.leaves > 60);  // more than the cache holds
  REQUIRE(shape.levels == seed + 1);
  REQUIRE(t.transactions->cached_bytes() <= 60 * kNodeSize);
  t.commit();
  t.reopen();
  REQUIRE(t.content() == model);
}

TEST_CASE("ascending inserts leave full leaves, also in the middle of the tree") {
  TestTrees t;
  const std::string value(53, 'v');
  REQUIRE(t.put(1u << 30, "the last"));
  for (uint64_t n = 0; n < 50000; ++n) REQUIRE(t.put(n, value));
  const auto shape = t.shape();
  INFO("fill " << shape.fill() << ", " << shape.leaves << " leaves");
  REQUIRE(shape.fill() > 0.95);
  REQUIRE(t.content().size() == 50001);
}

TEST_CASE(
    "ascending inserts into two places at once, and descending ones, leave fairly full leaves") {
  TestTrees t;
  const std::string value(53, 'v');
  for (uint64_t n = 0; n < 500; ++n) REQUIRE(t.put((1u << 21) + n, value));
  for (uint64_t n = 0; n < 20000; ++n) {
    REQUIRE(t.put(n, value));
    REQUIRE(t.put((1u << 20) + n, value));
    REQUIRE(t.put((1u << 22) - n, value));
  }
  const auto shape = t.shape();
  INFO("fill " << shape.fill());
  REQUIRE(shape.fill() > 0.8);
}

TEST_CASE("random inserts leave leaves two thirds full") {
  TestTrees t;
  std::mt19937_64 random(4);
  for (uint64_t n = 0; n < 30000; ++n) REQUIRE(t.put(random() % (1u << 30), std::string(53, 'v')));
  const auto shape = t.shape();
  INFO("fill " << shape.fill());
  REQUIRE(shape.fill() > 0.6);
}

TEST_CASE("a tree shrinks to one leaf when everything is erased, and gives its nodes back") {
  TestTrees t(128 * kMiB, {.cache_bytes = 4 * kMiB});
  t.commit();
  const uint64_t used_before = t.volume->space().usage().metadata_used_bytes;
  std::vector<uint64_t> numbers(9000);
  for (uint64_t n = 0; n < numbers.size(); ++n) {
    numbers[n] = n;
    REQUIRE(t.put(n, std::string(2000, 'v')));
  }
  REQUIRE(t.shape().levels == 3);
  const int order = GENERATE(0, 1, 2);
  if (order == 1) std::reverse(numbers.begin(), numbers.end());
  if (order == 2) std::shuffle(numbers.begin(), numbers.end(), std::mt19937_64(9));
  uint64_t erased = 0;
  for (uint64_t n : numbers) {
    REQUIRE(t.erase(n));
    if (++erased % 1500 == 0) t.shape();
    if (erased == 4000) t.commit();
    if (erased == numbers.size() - 100) REQUIRE(t.shape().leaves < 50);
    if (erased == numbers.size() - 3) REQUIRE(t.shape().levels <= 2);
  }
  REQUIRE(t.shape().levels == 1);
  REQUIRE(t.content().empty());
  t.commit();
  t.commit();
  REQUIRE(t.transactions->commit(true));
  REQUIRE(t.volume->space().usage().metadata_used_bytes == used_before);
  t.reopen();
  REQUIRE(t.content().empty());
}

TEST_CASE("values may grow and shrink in place, up to the largest") {
  TestTrees t;
  TestTrees::Model model;
  std::mt19937_64 random(5);
  for (int step = 0; step < 5000; ++step) {
    const uint64_t n = random() % 300;
    std::string value(random() % (kMaxItemBytes + 1), static_cast<char>('a' + step % 26));
    REQUIRE(t.put(n, value));
    model[test_key(n)] = std::move(value);
  }
  REQUIRE(t.content() == model);
  t.shape();
}

TEST_CASE("many prepared keys can be changed in one critical section") {
  TestTrees t(128 * kMiB, {.cache_bytes = 30 * kNodeSize});
  for (uint64_t n = 0; n < 20000; ++n) REQUIRE(t.put(n * 10, std::string(100, 'v')));
  t.commit();
  t.reopen();
  std::vector<uint64_t> batch;
  for (uint64_t i = 0; i < 60; ++i) batch.push_back(i * 3300 + 5);
  auto done = t.transactions->write({120}, [&](Txn& txn) -> Result<void> {
    for (uint64_t n : batch) {
      TRY(t.tree().prepare(txn, test_key(n), Tree::Intent::put));
      TRY(t.tree().prepare(txn, test_key(n / 10 * 10), Tree::Intent::erase));
    }
    for (uint64_t n : batch) {
      t.tree().insert(txn, test_key(n), bytes_of(std::string(kMaxItemBytes, 'w')));
      t.tree().erase(txn, test_key(n / 10 * 10));
    }
    return ok();
  });
  REQUIRE(done);
  REQUIRE(t.content().size() == 20000);
  t.shape();
  for (uint64_t n : batch) REQUIRE(t.get(n).value()->size() == kMaxItemBytes);
}

TEST_CASE("keys prepared in leaves that become empty can be changed") {
  constexpr uint64_t kItems = 2000;  // a few in each leaf; several inner nodes
  TestTrees t;
  TestTrees::Model model;
  const std::string large(kMaxItemBytes, 'l');
  for (uint64_t n = 0; n < kItems; ++n) {
    REQUIRE(t.put(n * 10, large));
    model[test_key(n * 10)] = large;
  }
  t.commit();
  std::mt19937_64 random(8);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    const uint64_t count = 1 + random() % 13;
    const uint64_t first = random() % (kItems - count);
    t.reopen();  // nothing is in memory
    auto done = t.transactions->write({40}, [&](Txn& txn) -> Result<void> {
      std::vector<Key> there;
      for (uint64_t n = first; n < first + count; ++n) {
        TRY(t.tree().prepare(txn, test_key(n * 10 + 5), Tree::Intent::put));
        TRY(t.tree().prepare(txn, test_key(n * 10), Tree::Intent::erase));
        TRY(const auto found, t.tree().find(txn, test_key(n * 10)));
        if (found) there.push_back(test_key(n * 10));
      }
      for (const Key& key : there) t.tree().erase(txn, key);
      for (uint64_t n = first; n < first + count; ++n) {
        t.tree().put(txn, test_key(n * 10 + 5), bytes_of(large));
      }
      return ok();
    });
    REQUIRE(done);
    for (uint64_t n = first; n < first + count; ++n) {
      model.erase(test_key(n * 10));
      model[test_key(n * 10 + 5)] = large;
    }
    t.commit();
  }
  REQUIRE(t.content() == model);
  t.shape();
}

TEST_CASE("scan visits a range, in order, until told to stop") {
  TestTrees t;
  for (uint64_t n = 0; n < 3000; ++n) REQUIRE(t.put(n, value_in_round(n)));
  std::vector<Key> seen;
  const auto scan = [&](uint64_t first, uint64_t last, size_t limit) {
    auto done = t.transactions->read([&](Access& access) {
      seen.clear();
      return t.tree().scan(access, test_key(first), test_key(last), [&](const Item& item) {
        seen.push_back(item.key);
        return seen.size() < limit;
      });
    });
    REQUIRE(done);
    return seen.size();
  };
  REQUIRE(scan(100, 2000, 10000) == 1901);
  REQUIRE((seen.front() == test_key(100) && seen.back() == test_key(2000)));
  REQUIRE(std::is_sorted(seen.begin(), seen.end()));
  REQUIRE(scan(100, 2000, 7) == 7);
  REQUIRE(scan(2000, 100, 7) == 0);
  REQUIRE(scan(2999, 5000, 7) == 1);
}
