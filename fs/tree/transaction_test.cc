// SPDX-License-Identifier: MIT
// Transactions: what is durable when, faults of the device in commits and reads, space, tasks.
#include "fs/tree/transaction.h"
#include "alloc/base/uuid.h"

#include <atomic>
#include <future>
#include <new>
#include <random>
#include <set>

#include "alloc/base/log.h"
#include "fs/tree/tree_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

/// Keeps the log out of the tests' output and counts its errors.
struct LogCount {
  LogCount() {
    set_log_sink([this](LogLevel level, const std::string&) {
      if (level == LogLevel::error) ++errors;
      if (level == LogLevel::warning) ++warnings;
    });
  }
  ~LogCount() { set_log_sink({}); }
  std::atomic<unsigned> errors{0}, warnings{0};
};

std::string value_for(uint64_t n) {
  return "value of " + std::to_string(n) + std::string(n % 90, 'x');
}

void change_at_random(TestTrees& t, TestTrees::Model& model, std::mt19937_64& random,
                      unsigned count, uint64_t keys = 3000) {
  for (unsigned i = 0; i < count; ++i) {
    const uint64_t n = random() % keys;
    if (model.count(test_key(n)) > 0 && random() % 3 == 0) {
      REQUIRE(t.erase(n));
      model.erase(test_key(n));
    } else {
      const std::string value = value_for(random() % 1000);
      REQUIRE(t.put(n, value));
      model[test_key(n)] = value;
    }
  }
}

/// Trees whose last commit is `old_state`, and which have been changed to `new_state` since.
struct ChangedTrees {
  explicit ChangedTrees(std::mt19937_64& random) {
    change_at_random(trees, old_state, random, 300);
    trees.commit();
    new_state = old_state;
    change_at_random(trees, new_state, random, 300);
  }
  /// Requires that after a crash the device has one of the two: the new one if the commit passed.
  void require_one_state(bool passed) {
    trees.reopen();
    const auto found = trees.content();
    REQUIRE((passed ? found == new_state : found == old_state || found == new_state));
  }

  TestTrees trees{64 * kMiB};
  TestTrees::Model old_state, new_state;
};

/// Where copy `copy` of a node lies on the device.
uint64_t physical(TestTrees& t, LogicalOffset address, unsigned copy) {
  auto guard = t.volume->acquire_map();
  auto segments = guard.map().for_read({address, kNodeSize}, copy);
  REQUIRE(segments);
  REQUIRE(segments.value().size() == 1);
  return segments.value()[0].offset.value;
}

std::vector<std::byte> raw_node(TestTrees& t, uint64_t at) {
  std::vector<std::byte> bytes(kNodeSize);
  t.disk().read(at, bytes);
  return bytes;
}

/// The first leaf of the fs tree, which has two levels.
NodePointer first_leaf(TestTrees& t) {
  const TreeRoot root = t.transactions->root(TreeId::fs);
  REQUIRE(root.level == 1);
  auto top = t.transactions->node({TreeId::fs, root.level, root.node, Key::min(), Key::max()});
  REQUIRE(top);
  return top.value()->pointer(0);
}

void collect_nodes(TestTrees& t, const NodeExpectation& expected, std::set<LogicalOffset>& into) {
  into.insert(expected.pointer.address);
  if (expected.level == 0) return;
  auto node = t.transactions->node(expected);
  REQUIRE(node);
  for (unsigned i = 0; i < node.value()->count(); ++i) {
    NodeExpectation child = expected;
    child.level = static_cast<uint8_t>(expected.level - 1);
    child.pointer = node.value()->pointer(i);
    if (i > 0) child.lower = node.value()->key(i);
    if (i + 1 < node.value()->count()) child.upper = node.value()->key(i + 1);
    collect_nodes(t, child, into);
  }
}

}  // namespace

TEST_CASE("a commit makes durable the changes before it, and no later ones") {
  TestTrees t;
  REQUIRE(t.put(1, "one"));
  REQUIRE(t.transactions->has_changes());
  t.commit();
  REQUIRE(!t.transactions->has_changes());
  REQUIRE(t.put(2, "two"));
  t.reopen();  // without a commit: as after a crash
  REQUIRE(t.get(1).value() == "one");
  REQUIRE(!t.get(2).value());
  REQUIRE(t.transactions->durable() == Generation(1));
  REQUIRE(t.transactions->running() == Generation(2));
}

TEST_CASE("counters are part of the transaction") {
  TestTrees t(64 * kMiB);
  REQUIRE(t.transactions->write({}, [](Txn& txn) -> Result<void> {
    txn.counters_for_change().next_inode = 1000;
    return ok();
  }));
  t.commit();
  t.reopen();
  REQUIRE(t.transactions
              ->read([](Access& a) -> Result<bool> {
                return a.counters() == FsCounters{1000, 0, 77};
              })
              .value());
}

TEST_CASE("a commit without changes writes nothing, unless it is told to") {
  TestTrees t(64 * kMiB);
  REQUIRE(t.put(1, "one"));
  REQUIRE(t.transactions->commit().value() == Generation(1));
  std::atomic<unsigned> writes{0};
  t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
    if (r.op == alloc::IoOp::write) ++writes;
    return ok();
  });
  REQUIRE(t.transactions->commit().value() == Generation(1));
  REQUIRE(writes == 0);
  REQUIRE(t.transactions->commit(true).value() == Generation(2));
  REQUIRE(writes > 0);
  t.devices.set_hook({});
  t.reopen();
  REQUIRE(t.get(1).value() == "one");
}

TEST_CASE("nothing that the durable superblock reaches is overwritten") {
  TestTrees t(128 * kMiB, {.cache_bytes = 60 * kNodeSize});
  std::mt19937_64 random(11);
  TestTrees::Model model;
  for (int round = 0; round < 12; ++round) {
    change_at_random(t, model, random, 400);
    t.commit();
    std::set<LogicalOffset> nodes;
    for (TreeId tree : {TreeId::fs, TreeId::extent}) {
      const TreeRoot root = t.transactions->root(tree);
      collect_nodes(t, {tree, root.level, root.node, Key::min(), Key::max()}, nodes);
    }
    std::set<uint64_t> places;
    for (LogicalOffset node : nodes) {
      places.insert(physical(t, node, 0));
      places.insert(physical(t, node, 1));
    }
    std::atomic<unsigned> overwritten{0}, written{0};
    const Generation before = t.transactions->durable();
    t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
      if (r.op != alloc::IoOp::write) return ok();
      ++written;
      const auto next = places.lower_bound(r.offset < kNodeSize ? 0 : r.offset - kNodeSize + 1);
      if (next != places.end() && *next < r.offset + r.length) ++overwritten;
      return ok();
    });
    change_at_random(t, model, random, 200);
    t.commit();
    t.devices.set_hook({});
    REQUIRE(t.transactions->durable() == before + 1);
    REQUIRE(written >= 4);
    REQUIRE(overwritten == 0);
  }
  t.reopen();
  REQUIRE(t.content() == model);
}

TEST_CASE(
    "after a failure of any write or flush of a commit there is the state before it or after it") {
  std::mt19937_64 random(12);
  LogCount log;
  bool passed = false;
  // The power goes, or one write fails and the device is well again.
  const bool for_ever = GENERATE(true, false);
  for (unsigned fatal_write = 1; !passed; ++fatal_write) {
    REQUIRE(fatal_write < 200);
    ChangedTrees changed(random);
    TestTrees& t = changed.trees;
    std::atomic<unsigned> count{0};
    t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
      if (r.op != alloc::IoOp::write && r.op != alloc::IoOp::flush) return ok();
      ++count;
      if (count == fatal_write || (for_ever && count > fatal_write)) return Error(Errc::io_error);
      return ok();
    });
    const unsigned errors_before = log.errors;
    auto committed = t.transactions->commit();
    passed = committed.has_value();
    REQUIRE(passed == (count < fatal_write));
    if (!passed) {
      REQUIRE(committed.error() == Errc::io_error);
      REQUIRE(log.errors == errors_before + 1);
      REQUIRE(t.transactions->fatal());
      // For good: also when the device is well again.
      t.devices.set_hook({});
      REQUIRE(t.put(1, "x").error() == Errc::read_only);
      REQUIRE(t.transactions->commit().error() == Errc::io_error);
      REQUIRE(t.transactions->commit(true).error() == Errc::io_error);
      REQUIRE(t.transactions->commit().error().message() == *t.transactions->fatal());
      REQUIRE(log.errors == errors_before + 1);
      REQUIRE(t.content() == changed.new_state);  // reads go on
    }
    t.devices.set_hook({});
    changed.require_one_state(passed);
    t.shape();
    // And it goes on from there.
    REQUIRE(t.put(5, "five"));
    t.commit();
    t.reopen();
    REQUIRE(t.get(5).value() == "five");
  }
}

TEST_CASE("a device that is full at any write of a commit: nothing is lost, and it goes on") {
  std::mt19937_64 random(14);
  bool passed = false;
  const bool crashes = GENERATE(false, true);
  for (unsigned full_from = 1; !passed; ++full_from) {
    REQUIRE(full_from < 200);
    ChangedTrees changed(random);
    TestTrees& t = changed.trees;
    std::atomic<unsigned> count{0};
    const auto is_full = [&](const alloc::IoRequest& r) -> Result<void> {
      if (r.op != alloc::IoOp::write || ++count < full_from) return ok();
      return Error(Errc::device_full);
    };
    t.devices.set_hook(is_full);
    auto committed = t.transactions->commit();
    passed = committed.has_value();
    if (!passed) {
      REQUIRE(committed.error() == Errc::device_full);
      REQUIRE(committed.error().to_errno() == ENOSPC);
      REQUIRE(!t.transactions->fatal());
      REQUIRE(t.transactions->obstacle());
      REQUIRE(t.transactions->has_changes());  // for the commit timer
      REQUIRE(t.put(1, "x").error() == Errc::device_full);
      REQUIRE(t.transactions->commit(true).error() == Errc::device_full);
      REQUIRE(t.content() == changed.new_state);  // reads go on
    }
    t.devices.set_hook({});
    if (crashes) {
      changed.require_one_state(passed);
    } else {
      REQUIRE(t.put(1, "there is room"));  // without anybody asking for a commit
      changed.new_state[test_key(1)] = "there is room";
      REQUIRE(!t.transactions->obstacle());
      t.commit();
      t.reopen();
      REQUIRE(t.content() == changed.new_state);
    }
    t.shape();
  }
}

TEST_CASE("changes during a commit belong to the next commit") {
  TestTrees t;
  std::mt19937_64 random(13);
  TestTrees::Model first;
  change_at_random(t, first, random, 3000);
  t.commit();
  change_at_random(t, first, random, 500);
  std::atomic<bool> once{false};
  TestTrees::Model second = first;
  t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
    if (r.op == alloc::IoOp::write && !once.exchange(true)) {
      change_at_random(t, second, random, 2000);  // all leaves
    }
    return ok();
  });
  t.commit();
  t.devices.set_hook({});
  REQUIRE(once);
  REQUIRE(t.content() == second);
  const auto disk = t.disk().clone();
  t.commit();
  t.reopen();
  REQUIRE(t.content() == second);
  t.close();
  t.devices.insert(t.kPath, disk);  // as after a crash between the two
  t.reopen();
  REQUIRE(t.content() == first);
  t.shape();
}

TEST_CASE("a bad copy of a leaf is repaired from the other") {
  TestTrees t;
  LogCount log;
  for (uint64_t n = 0; n < 2000; ++n) REQUIRE(t.put(n, value_for(n)));
  t.commit();
  const NodePointer leaf = first_leaf(t);
  const unsigned bad = GENERATE(0, 1);
  const uint64_t place = physical(t, leaf.address, bad);
  const auto right = raw_node(t, place);
  t.reopen();
  t.disk().corrupt(place + 5000, 100);
  REQUIRE(t.get(0).value() == value_for(0));
  if (bad == 0) {
    REQUIRE(log.warnings == 1);
    REQUIRE(raw_node(t, place) == right);
    REQUIRE(t.volume->device(DeviceId(1))->counters().checksum_errors == 1);
  } else {
    REQUIRE(log.warnings == 0);  // nobody looked at it
  }
}

TEST_CASE("a bad copy of the root is repaired when the volume is opened") {
  TestTrees t;
  LogCount log;
  for (uint64_t n = 0; n < 2000; ++n) REQUIRE(t.put(n, value_for(n)));
  t.commit();
  const uint64_t place = physical(t, t.transactions->root(TreeId::fs).node.address, 0);
  const auto right = raw_node(t, place);
  t.disk().corrupt(place + 20, 1);
  t.close();
  REQUIRE(t.try_open(true));  // read-only: read from the other copy, nothing is written
  REQUIRE(raw_node(t, place) != right);
  REQUIRE(t.get(3).value() == value_for(3));
  t.reopen();
  REQUIRE(raw_node(t, place) == right);
}

TEST_CASE("a node that is bad everywhere is bad_node, an unreadable one io_error; others go on") {
  TestTrees t;
  LogCount log;
  for (uint64_t n = 0; n < 2000; ++n) REQUIRE(t.put(n, value_for(n)));
  t.commit();
  const NodePointer leaf = first_leaf(t);
  const uint64_t places[2] = {physical(t, leaf.address, 0), physical(t, leaf.address, 1)};
  t.reopen();
  SECTION("rotten") {
    for (uint64_t place : places) t.disk().corrupt(place, 8);
    auto got = t.get(0);
    REQUIRE(!got);
    REQUIRE(got.error() == Errc::bad_node);
    REQUIRE(got.error().message().find(std::to_string(leaf.address.value)) != std::string::npos);
    REQUIRE(t.put(0, "new").error() == Errc::bad_node);
  }
  SECTION("unreadable") {
    t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
      for (uint64_t place : places) {
        if (r.op == alloc::IoOp::read && r.offset == place) return Error(Errc::io_error);
      }
      return ok();
    });
    REQUIRE(t.get(0).error() == Errc::io_error);
    t.devices.set_hook({});
    REQUIRE(t.get(0).value() == value_for(0));
  }
  REQUIRE(t.get(1999).value() == value_for(1999));
  REQUIRE(!t.transactions->fatal());
  REQUIRE(t.put(1999, "new"));
  t.commit();
}

TEST_CASE("a stale node, left behind by a lost write, is seen though it is sound by itself") {
  TestTrees t;
  LogCount log;
  for (uint64_t n = 0; n < 2000; ++n) REQUIRE(t.put(n, value_for(n)));
  t.commit();
  const NodePointer leaf = first_leaf(t);
  const uint64_t place = physical(t, leaf.address, 0);
  SECTION("of another address") {
    auto top = t.transactions->node(
        {TreeId::fs, 1, t.transactions->root(TreeId::fs).node, Key::min(), Key::max()});
    t.disk().write(place, raw_node(t, physical(t, top.value()->pointer(1).address, 0)));
  }
  SECTION("of the same address and generation, from before a crash") {
    AlignedBuffer bytes(kNodeSize);
    t.disk().read(place, bytes.span());
    Node other(std::move(bytes));
    REQUIRE(other.replace(0, bytes_of("the lost life")));
    other.seal();
    REQUIRE(Transactions::node_is_sound(other.bytes(), leaf.address, leaf.birth));
    t.disk().write(place, other.bytes());
  }
  t.reopen();
  REQUIRE(t.get(0).value() == value_for(0));
  REQUIRE(log.warnings == 1);
}

TEST_CASE("two pointers to one node are seen when the volume is opened") {
  TestTrees t(64 * kMiB);
  alloc::Space& space = t.volume->space();
  const Generation running = t.transactions->running();
  const Uuid uuid = t.volume->superblock().volume;
  const bool twice = GENERATE(false, true);
  auto reservation = space.reserve_nodes(4, alloc::ReserveClass::normal, running);
  REQUIRE(reservation);
  std::vector<std::unique_ptr<Node>> nodes;
  for (uint8_t level : {0, 0, 1, 0}) {
    const LogicalOffset at = space.allocate_node(reservation.value(), running);
    const TreeId tree = nodes.size() < 3 ? TreeId::fs : TreeId::extent;
    nodes.push_back(std::make_unique<Node>(uuid, tree, level, at, running));
  }
  const auto pointer = [&](unsigned i) {
    return NodePointer{nodes[i]->address(), running, nodes[i]->seal()};
  };
  nodes[2]->insert(0, Key::min(), pointer(0));
  nodes[2]->insert(1, test_key(1), pointer(twice ? 0 : 1));
  FsPayload payload;
  payload.roots = {TreeRoot{pointer(2), 1}, TreeRoot{pointer(3), 0}};
  const auto sealed = t.volume->seal(running);
  {
    auto guard = t.volume->acquire_map();
    for (const auto& node : nodes) {
      const alloc::LogicalWrite write{node->address(), node->bytes()};
      REQUIRE(t.volume->write(guard, {&write, 1}));
    }
  }
  REQUIRE(t.volume->finish_commit(sealed, encode(payload)));
  auto opened = t.try_open();
  if (!twice) {
    REQUIRE(opened);
  } else {
    REQUIRE(!opened);
    REQUIRE(opened.error() == Errc::bad_node);
    REQUIRE(opened.error().message().find("two pointers") != std::string::npos);
  }
}

TEST_CASE("the fs payload is refused when it is short, long or impossible") {
  FsPayload payload;
  payload.roots[0] = {{LogicalOffset(4096), Generation(3), 7}, 1};
  payload.roots[1] = {{LogicalOffset(8192), Generation(3), 8}, 0};
  payload.counters = {300, 20, 5};
  auto bytes = encode(payload);
  REQUIRE(decode_fs_payload(bytes).value() == payload);
  for (size_t length = 0; length < bytes.size(); ++length) {
    REQUIRE(!decode_fs_payload(ConstBytes(bytes).first(length)));
  }
  bytes.push_back(std::byte{0});
  REQUIRE(!decode_fs_payload(bytes));
  bytes.pop_back();
  for (const uint64_t number : {kInodeNumbersEnd + 1, ~uint64_t{0}}) {
    FsPayload beyond = payload;
    beyond.counters.next_inode = number;
    REQUIRE(!decode_fs_payload(encode(beyond)));
    beyond.counters = payload.counters;
    beyond.counters.inode_count = number;
    REQUIRE(!decode_fs_payload(encode(beyond)));
  }
  bytes[1] = std::byte{200};  // level
  REQUIRE(!decode_fs_payload(bytes));
  bytes[0] = std::byte{99};
  REQUIRE(decode_fs_payload(bytes).error() == Errc::unsupported_feature);
}

TEST_CASE("usage records of many chunks survive, and go when a chunk is empty") {
  TestTrees t(2048 * kMiB, {.cache_bytes = 4 * kMiB});
  alloc::Space& space = t.volume->space();
  std::map<LogicalOffset, uint64_t> used;
  std::vector<LogicalRange> ranges;
  const auto allocate = [&](uint64_t bytes) {
    auto range = space.allocate_data(bytes, t.transactions->running());
    REQUIRE(range);
    REQUIRE(t.transactions->write({1}, [&](Txn& txn) -> Result<void> {
      const Key key{range.value().start.value, 16, 0};
      TRY(t.transactions->extent_tree().prepare(txn, key, Tree::Intent::put));
      t.transactions->extent_tree().put(txn, key, bytes_of("record"));
      space.record_data(range.value());
      return ok();
    }));
    ranges.push_back(range.value());
    auto guard = t.volume->acquire_map();
    used[guard.map().chunk_of(range.value())->start] += range.value().length;
  };
  while (used.size() < 40) allocate(8 * kMiB);
  t.commit();
  t.reopen();
  for (const auto& [chunk, bytes] : used) {
    REQUIRE(t.volume->space().used_bytes(chunk) == bytes);
  }
  REQUIRE(t.volume->space().usage().data_used_bytes > 0);

  const auto has_record = [&](LogicalOffset chunk) {
    return t.transactions
        ->read([&](Access& a) -> Result<bool> {
          TRY(auto found, t.transactions->extent_tree().find(a, usage_key(chunk)));
          return found.has_value();
        })
        .value();
  };
  const LogicalOffset emptied = used.begin()->first;
  const uint64_t emptied_bytes = used.begin()->second;
  REQUIRE(has_record(emptied));
  REQUIRE(t.transactions->write({1}, [&](Txn& txn) -> Result<void> {
    for (const LogicalRange& range : ranges) {
      if (range.start < emptied + emptied_bytes) {
        t.volume->space().free_data(range, Generation(1), txn.running());
      }
    }
    txn.counters_for_change();
    return ok();
  }));
  t.commit();
  REQUIRE(!has_record(emptied));
  REQUIRE(has_record(std::next(used.begin())->first));
}

TEST_CASE("waiters of a commit do not wait for its discards, unless they need the space") {
  TestTrees t;
  const auto usage = [&] { return t.volume->space().usage(); };
  std::vector<LogicalRange> ranges;
  while (usage().data_chunk_bytes < 16 * kMiB) {
    ranges.push_back(t.volume->space().allocate_data(kMiB, t.transactions->running()).value());
    t.volume->space().record_data(ranges.back());
  }
  t.commit();
  for (const auto& range : ranges) {
    t.volume->space().free_data(range, t.transactions->durable(), t.transactions->running());
  }
  REQUIRE(t.transactions->commit(true));  // the chunks are empty now; the next commit removes them
  const uint64_t before = usage().unallocated_bytes;

  std::promise<void> discarding, discard;
  std::atomic<bool> first{true};
  const std::shared_future<void> discard_now = discard.get_future().share();
  t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
    if (r.op != alloc::IoOp::discard) return ok();
    if (first.exchange(false)) discarding.set_value();
    discard_now.wait();
    return ok();
  });
  auto committer = std::async(std::launch::async, [&] { return t.transactions->commit(true); });
  discarding.get_future().wait();
  const Generation durable = t.transactions->durable();
  auto waiter = std::async(std::launch::async, [&] { return t.transactions->commit(); });
  auto freed_when_told = std::async(std::launch::async, [&] {
    return t.transactions->commit_and_free().has_value() && usage().unallocated_bytes > before;
  });
  const bool told = waiter.wait_for(std::chrono::seconds(10)) == std::future_status::ready;
  const bool told_too_early =
      freed_when_told.wait_for(std::chrono::milliseconds(50)) == std::future_status::ready;
  const bool freed = usage().unallocated_bytes != before;
  // Reads and writes go on meanwhile.
  const bool written = t.put(1, "one").has_value();
  discard.set_value();
  CHECK(told);
  CHECK(committer.get().value() == durable);
  CHECK(waiter.get().value() == durable);
  CHECK(written);
  CHECK_FALSE(freed);
  CHECK_FALSE(told_too_early);
  CHECK(freed_when_told.get());
  t.devices.set_hook({});
}

TEST_CASE("a full volume refuses to grow, frees what is deleted, and grows again") {
  TestTrees t(64 * kMiB, {.cache_bytes = 4 * kMiB});
  const std::string value(3000, 'v');
  uint64_t count = 0;
  Result<void> last = ok();
  for (int round = 0; round < 3; ++round) {
    for (; count < 30000; ++count) {
      last = t.put(count, value);
      if (!last) break;
    }
    REQUIRE(!last);
    REQUIRE(last.error() == Errc::no_space);
    REQUIRE(count > 1000);
    t.commit();
    // Deleting works, and a commit is never stuck.
    const uint64_t keep = round * 100;
    while (count > keep) {
      --count;
      auto erased = t.erase(count);
      if (!erased) FAIL(erased.error().message());
    }
    t.commit();
  }
  t.reopen();
  REQUIRE(t.content().size() == count);
}

TEST_CASE("the dirty limit calls for a commit; at twice the limit writers make one themselves") {
  TestTrees t(128 * kMiB, {.cache_bytes = 8 * kMiB, .dirty_limit_bytes = 20 * kNodeSize});
  t.commit();
  unsigned called = 0;
  t.transactions->set_pressure_callback([&] { ++called; });
  uint64_t n = 0;
  while (called == 0) REQUIRE(t.put(n++, std::string(1000, 'v')));
  REQUIRE(t.transactions->dirty_bytes() >= 20 * kNodeSize);
  REQUIRE(t.transactions->durable() == Generation(1));
  while (t.transactions->durable() == Generation(1)) {
    REQUIRE(t.transactions->dirty_bytes() <= 45 * kNodeSize);
    REQUIRE(t.put(n++, std::string(1000, 'v')));
  }
  REQUIRE(called == 1);
}

TEST_CASE("a smaller limit shrinks the cache at once, a larger one lets it grow") {
  TestTrees t(128 * kMiB, {.cache_bytes = 8 * kMiB});
  for (uint64_t n = 0; n < 4000; ++n) REQUIRE(t.put(n, std::string(1000, 'v')));
  t.commit();
  REQUIRE(t.transactions->cached_bytes() > 200 * kNodeSize);
  t.transactions->set_cache_bytes(100 * kNodeSize);
  REQUIRE(t.transactions->cache_bytes() == 100 * kNodeSize);
  REQUIRE(t.transactions->cached_bytes() <= 100 * kNodeSize);
  unsigned called = 0;
  t.transactions->set_pressure_callback([&] { ++called; });
  for (uint64_t n = 0; called == 0; ++n) REQUIRE(t.put(n, std::string(1000, 'w')));
  REQUIRE(t.transactions->dirty_bytes() <= 30 * kNodeSize);
  t.commit();
  t.transactions->set_cache_bytes(8 * kMiB);
  REQUIRE(t.content().size() == 4000);
  REQUIRE(t.transactions->cached_bytes() > 200 * kNodeSize);
}

TEST_CASE("writers that wait for room return when the commit fails") {
  LogCount log;
  TestTrees t(128 * kMiB, {.cache_bytes = 8 * kMiB, .dirty_limit_bytes = 10 * kNodeSize});
  t.devices.set_hook([&](const alloc::IoRequest& r) -> Result<void> {
    if (r.op == alloc::IoOp::write) return Error(Errc::io_error);
    return ok();
  });
  std::vector<std::unique_ptr<Task>> tasks;
  std::atomic<unsigned> refused{0};
  for (uint64_t i = 0; i < 4; ++i) {
    tasks.push_back(t.runtime.spawn("writer", [&, i] {
      for (uint64_t n = 0; n < 10000; ++n) {
        auto done = t.put(i * 100000 + n, std::string(1000, 'v'));
        if (!done) {
          if (done.error() == Errc::read_only) ++refused;
          return;
        }
      }
    }));
  }
  for (auto& task : tasks) task->join();
  REQUIRE(refused == 4);
  REQUIRE(log.errors == 1);
}

TEST_CASE("tasks that insert, erase, read and commit at once do not disturb each other") {
  TestTrees t(256 * kMiB, {.cache_bytes = 100 * kNodeSize, .dirty_limit_bytes = 40 * kNodeSize});
  constexpr uint64_t kEach = 2500;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0};
  std::vector<std::unique_ptr<Task>> writers, others;
  for (uint64_t w = 0; w < 4; ++w) {
    writers.push_back(t.runtime.spawn("writer", [&, w] {
      for (uint64_t i = 0; i < kEach; ++i) {
        const uint64_t n = i * 4 + w;  // all in the same leaves
        if (!t.put(n, value_for(n))) ++failures;
        if (i % 3 == 2 && !t.erase((i - 1) * 4 + w)) ++failures;
        if (i % 500 == 250) {
          auto done = t.transactions->commit();
          if (!done || t.transactions->durable() < done.value()) ++failures;
        }
      }
    }));
  }
  others.push_back(t.runtime.spawn("committer", [&] {
    while (!stop) {
      const Generation before = t.transactions->running();
      auto done = t.transactions->commit(true);
      if (!done || done.value() < before) ++failures;
    }
  }));
  others.push_back(t.runtime.spawn("reader", [&] {
    std::mt19937_64 random(1);
    while (!stop) {
      const uint64_t n = random() % (kEach * 4);
      auto got = t.get(n);
      if (!got || (got.value() && *got.value() != value_for(n))) ++failures;
    }
  }));
  for (auto& task : writers) task->join();
  stop = true;
  for (auto& task : others) task->join();
  REQUIRE(failures == 0);
  t.commit();
  t.reopen();
  TestTrees::Model model;
  for (uint64_t w = 0; w < 4; ++w) {
    for (uint64_t i = 0; i < kEach; ++i) {
      if (i % 3 == 1 && i + 1 < kEach) continue;
      model[test_key(i * 4 + w)] = value_for(i * 4 + w);
    }
  }
  REQUIRE(t.content() == model);
  t.shape();
}

TEST_CASE("an operation that runs out of memory before it changes anything is an answer") {
  TestTrees t(64 * kMiB);
  REQUIRE(t.put(1, "one"));
  const auto failed =
      t.transactions->write(Budget{}, [](Txn&) -> Result<void> { throw std::bad_alloc(); });
  REQUIRE_FALSE(failed);
  CHECK(failed.error() == Errc::out_of_memory);
  CHECK_FALSE(t.transactions->fatal());
  REQUIRE(t.put(2, "two"));
  t.commit();
}

TEST_CASE("an operation that runs out of memory amid its changes is never committed") {
  const LogCount log;
  TestTrees t(64 * kMiB);
  REQUIRE(t.put(1, "one"));
  t.commit();
  const auto failed = t.transactions->write(Budget{}, [](Txn& txn) -> Result<void> {
    ++txn.counters_for_change().inode_count;
    throw std::bad_alloc();
  });
  REQUIRE_FALSE(failed);
  CHECK(t.transactions->fatal());
  CHECK_FALSE(t.put(2, "two"));
  CHECK_FALSE(t.transactions->commit());
}

TEST_CASE("how fast", "[.][benchmark]") {
  TestTrees t(1024 * kMiB);
  const auto per_second = [&](const char* what, uint64_t count, auto f) {
    const auto start = t.runtime.now();
    for (uint64_t n = 0; n < count; ++n) f(n);
    const double seconds = std::chrono::duration<double>(t.runtime.now() - start).count();
    WARN(what << ": " << static_cast<uint64_t>(static_cast<double>(count) / seconds) << "/s");
  };
  std::mt19937_64 random(1);
  per_second("ascending inserts", 300000,
             [&](uint64_t n) { (void)t.put(n, std::string(50, 'v')); });
  per_second("random updates", 300000,
             [&](uint64_t) { (void)t.put(random() % 300000, std::string(50, 'w')); });
  per_second("lookups", 300000, [&](uint64_t) { (void)t.get(random() % 300000); });
  per_second("commits of one change", 5000, [&](uint64_t n) {
    (void)t.put(n, std::string(50, 'x'));
    (void)t.transactions->commit();
  });
}
