// SPDX-License-Identifier: MIT
// For tests of trees and of what is above them: a volume in memory with its trees, items by number,
// a walk that checks every node.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/assert.h"
#include "alloc/volume/volume_test_util.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs::test {

using alloc::test::TestDisks;
using moltfs::test::bytes_of;
using moltfs::test::code_of;
using moltfs::test::kMiB;
using moltfs::test::must;
using moltfs::test::text_of;

inline Key test_key(uint64_t n) {
  return {n >> 8, 1, n & 255};
}

/// A volume on one device in memory, with its trees.
class TestTrees : public TestDisks {
 public:
  static constexpr const char* kPath = "mem:a";

  explicit TestTrees(uint64_t size_bytes = 256 * kMiB, Transactions::Options with = {})
      : TestTrees(NotMade{}, size_bytes, with) {
    volume = must(create({kPath}));
    FsCounters counters;
    counters.next_inode = 256;
    counters.hash_seed = 77;
    transactions = must(Transactions::create(*volume, options, counters));
  }

  void close() {
    transactions.reset();
    volume.reset();
  }
  Result<void> try_open(bool read_only = false) {
    close();
    alloc::Volume::OpenOptions how;
    how.read_only = options.read_only = read_only;
    TRY(volume, TestDisks::open({kPath}, how));
    TRY(transactions, Transactions::open(*volume, options));
    return ok();
  }
  void reopen() { must(try_open()); }
  moltfs::test::MemoryDisk& disk() { return devices.disk(kPath); }
  void commit() { must(transactions->commit()); }

  Result<void> put(uint64_t n, const std::string& value) {
    return transactions->write({1}, [&](Txn& txn) -> Result<void> {
      TRY(tree().prepare(txn, test_key(n), Tree::Intent::put));
      tree().put(txn, test_key(n), bytes_of(value));
      return ok();
    });
  }
  Result<void> erase(uint64_t n) {
    return transactions->write({1, alloc::ReserveClass::reclaiming}, [&](Txn& txn) -> Result<void> {
      TRY(tree().prepare(txn, test_key(n), Tree::Intent::erase));
      tree().erase(txn, test_key(n));
      return ok();
    });
  }
  Result<std::optional<std::string>> get(uint64_t n) {
    return transactions->read([&](Access& access) -> Result<std::optional<std::string>> {
      TRY(auto found, tree().find(access, test_key(n)));
      if (!found) return std::nullopt;
      return std::optional(text_of(*found));
    });
  }
  const Tree& tree() const { return transactions->fs_tree(); }

  using Model = std::map<Key, std::string>;
  Model content() {
    auto all = transactions->read([&](Access& access) -> Result<Model> {
      Model found;
      TRY(tree().scan(access, Key::min(), Key::max(), [&](const Item& item) {
        found.emplace(item.key, text_of(item.value));
        return true;
      }));
      return found;
    });
    REQUIRE(all);
    return all.value();
  }

  struct Shape {
    unsigned levels = 0;
    uint64_t leaves = 0, inner_nodes = 0, used_bytes = 0;
    double fill() const {
      return static_cast<double>(used_bytes) / static_cast<double>(leaves * kNodeCapacity);
    }
  };
  /// Looks at every node, as it would be after a commit; all must hold what their parents say.
  Shape shape(TreeId which = TreeId::fs) {
    const TreeRoot root = transactions->root(which);
    Shape shape;
    shape.levels = root.level + 1u;
    look_at({which, root.level, root.node, Key::min(), Key::max()}, true, shape);
    return shape;
  }

  Transactions::Options options;
  std::unique_ptr<alloc::Volume> volume;
  std::unique_ptr<Transactions> transactions;

 protected:
  /// For layers above, which make the trees in their own way.
  struct NotMade {};
  TestTrees(NotMade, uint64_t size_bytes, Transactions::Options with)
      : TestDisks({{kPath, size_bytes}}), options(with) {}

 private:
  void look_at(const NodeExpectation& expected, bool is_root, Shape& shape) {
    auto found = transactions->node(expected);
    if (!found) FAIL(found.error().message());
    const Node& node = *found.value();
    REQUIRE(node.level() == expected.level);
    if (!is_root) REQUIRE(node.count() > 0);
    Node sealed(node);
    NodeExpectation now = expected;
    now.pointer.checksum = sealed.seal();
    auto valid = validate_node(sealed.bytes(), now, nullptr);
    if (!valid) FAIL(valid.error().message());
    if (node.is_leaf()) {
      ++shape.leaves;
      shape.used_bytes += node.used_bytes();
      return;
    }
    ++shape.inner_nodes;
    if (is_root) REQUIRE(node.count() > 1);
    for (unsigned i = 0; i < node.count(); ++i) {
      NodeExpectation child = expected;
      child.level = static_cast<uint8_t>(expected.level - 1);
      child.pointer = node.pointer(i);
      if (i > 0) child.lower = node.key(i);
      if (i + 1 < node.count()) child.upper = node.key(i + 1);
      look_at(child, false, shape);
    }
  }
};

}  // namespace moltfs::fs::test
