// SPDX-License-Identifier: MIT
// What the tests of trees and transactions share: a volume in memory, items by number, a walk that
// checks every node.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/assert.h"
#include "alloc/volume/volume.h"
#include "fs/tree/transaction.h"
#include "test/support/catch.h"
#include "test/support/memory_device.h"

namespace moltfs::fs::test {

inline constexpr uint64_t kMiB = 1024 * 1024;

inline Key key_of(uint64_t n) {
  return {n >> 8, 1, n & 255};
}

inline ConstBytes bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

inline std::string text_of(ConstBytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A device "a" in memory with a volume and its transactions on it.
class TestVolume {
 public:
  explicit TestVolume(uint64_t size_bytes = 256 * kMiB, Transactions::Options with = {})
      : options(with) {
    devices.add("a", size_bytes);
    auto device = devices.open("a", {});
    REQUIRE(device);
    auto made = alloc::Volume::create(runtime, devices, {device.value()}, {});
    REQUIRE(made);
    volume = std::move(made.value());
    FsCounters counters;
    counters.next_inode = 256;
    counters.hash_seed = 77;
    auto created = Transactions::create(*volume, options, counters);
    REQUIRE(created);
    txns = std::move(created.value());
  }

  void close() {
    txns.reset();
    volume.reset();
  }
  Result<void> try_open(bool read_only = false) {
    close();
    alloc::Volume::OpenOptions how;
    how.read_only = read_only;
    TRY(volume, alloc::Volume::open(runtime, devices, {"a"}, how));
    options.read_only = read_only;
    TRY(txns, Transactions::open(*volume, options));
    return ok();
  }
  void reopen() {
    auto opened = try_open();
    if (!opened) FAIL(opened.error().message());
  }
  void commit() {
    auto done = txns->commit();
    if (!done) FAIL(done.error().message());
  }

  Result<void> put(uint64_t n, const std::string& value) {
    return txns->write({1}, [&](Txn& txn) -> Result<void> {
      TRY(tree().prepare(txn, key_of(n), Tree::Intent::put));
      tree().put(txn, key_of(n), bytes_of(value));
      return ok();
    });
  }
  Result<void> erase(uint64_t n) {
    return txns->write({1, alloc::ReserveClass::reclaiming}, [&](Txn& txn) -> Result<void> {
      TRY(tree().prepare(txn, key_of(n), Tree::Intent::erase));
      tree().erase(txn, key_of(n));
      return ok();
    });
  }
  Result<std::optional<std::string>> get(uint64_t n) {
    return txns->read([&](Access& access) -> Result<std::optional<std::string>> {
      TRY(auto found, tree().find(access, key_of(n)));
      if (!found) return std::nullopt;
      return std::optional(text_of(*found));
    });
  }
  const Tree& tree() const { return txns->fs_tree(); }

  using Model = std::map<Key, std::string>;
  Model content() {
    auto all = txns->read([&](Access& access) -> Result<Model> {
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
    const TreeRoot root = txns->root(which);
    Shape shape;
    shape.levels = root.level + 1u;
    look_at({which, root.level, root.node, Key::min(), Key::max()}, true, shape);
    return shape;
  }

  RealRuntime runtime;
  moltfs::test::MemoryDevices devices;
  Transactions::Options options;
  std::unique_ptr<alloc::Volume> volume;
  std::unique_ptr<Transactions> txns;

 private:
  void look_at(const NodeExpectation& expected, bool is_root, Shape& shape) {
    auto found = txns->node(expected);
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
