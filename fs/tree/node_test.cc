// SPDX-License-Identifier: MIT
// Nodes: changes against a map, the sealed form, and that no byte from disk gets past validation.
#include "fs/tree/node.h"
#include "alloc/base/checksum.h"
#include "alloc/base/uuid.h"

#include <cstring>
#include <map>
#include <random>
#include <string>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;

namespace {

const Uuid kVolume{{1, 2, 3}};
constexpr LogicalOffset kAddress{1 << 20};
constexpr Generation kBirth{7};

Node make_leaf() {
  return Node(kVolume, TreeId::fs, 0, kAddress, kBirth);
}
Key key_of(uint64_t n) {
  return {n / 10, static_cast<uint8_t>(n % 3), n};
}
ConstBytes view_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}
NodeExpectation expectation(Node& node) {
  NodeExpectation expected;
  expected.tree = TreeId::fs;
  expected.level = node.level();
  expected.pointer = {kAddress, kBirth, node.seal()};
  return expected;
}
bool is_valid(Node& node) {
  const NodeExpectation expected = expectation(node);
  return validate_node(node.bytes(), expected, &kVolume).has_value();
}
AlignedBuffer copy_of(const Node& node) {
  AlignedBuffer copy(kNodeSize);
  std::memcpy(copy.data(), node.bytes().data(), kNodeSize);
  return copy;
}
void fix_checksum(AlignedBuffer& bytes) {
  const uint64_t sum = checksum_of(ConstBytes(bytes.span()).subspan(8));
  std::memcpy(bytes.data(), &sum, sizeof(sum));
}

}  // namespace

TEST_CASE("a leaf holds what a map would hold") {
  Node leaf = make_leaf();
  std::map<Key, std::string> model;
  std::mt19937_64 random(1);
  for (int step = 0; step < 20000; ++step) {
    const Key key = key_of(random() % 300);
    const std::string value(random() % (random() % 8 == 0 ? 2000 : 60),
                            static_cast<char>('a' + random() % 26));
    const unsigned slot = leaf.lower_bound(key);
    const bool there = slot < leaf.count() && leaf.key(slot) == key;
    REQUIRE(there == (model.count(key) > 0));
    if (there && random() % 2 == 0) {
      leaf.erase(slot);
      model.erase(key);
    } else if (there) {
      if (leaf.replace(slot, view_of(value))) model[key] = value;
    } else if (leaf.fits(value.size())) {
      leaf.insert(slot, key, view_of(value));
      model[key] = value;
    } else {
      leaf.erase(0);
      model.erase(model.begin());
    }
    REQUIRE(leaf.count() == model.size());
    if (step % 50 != 0) continue;
    const NodeExpectation expected = expectation(leaf);
    auto valid = validate_node(leaf.bytes(), expected, &kVolume);
    if (!valid) FAIL(valid.error().message());
    unsigned i = 0;
    size_t used = 0;
    for (const auto& [k, v] : model) {
      REQUIRE(leaf.key(i) == k);
      REQUIRE(leaf.value(i).size() == v.size());
      REQUIRE((v.empty() || std::memcmp(leaf.value(i).data(), v.data(), v.size()) == 0));
      used += v.size() + sizeof(LeafSlot);
      ++i;
    }
    REQUIRE(leaf.used_bytes() == used);
  }
}

TEST_CASE("a leaf takes exactly its capacity") {
  Node leaf = make_leaf();
  const std::string big(3900, 'x');
  for (unsigned i = 0; i < 4; ++i) {
    REQUIRE(leaf.fits(big.size()));
    leaf.insert(i, key_of(i * 10), view_of(big));
  }
  const size_t left = kNodeCapacity - leaf.used_bytes() - sizeof(LeafSlot);
  REQUIRE(leaf.fits(left));
  REQUIRE(!leaf.fits(left + 1));
  leaf.insert(4, key_of(40), view_of(std::string(left, 'y')));
  REQUIRE(leaf.used_bytes() == kNodeCapacity);
  REQUIRE(is_valid(leaf));
  REQUIRE(!leaf.replace(4, view_of(std::string(left + 1, 'z'))));
  leaf.erase(0);
  REQUIRE(leaf.replace(3, view_of(std::string(left + 1, 'z'))));
}

TEST_CASE("the sealed form does not depend on the order of changes") {
  Node up = make_leaf(), down = make_leaf();
  for (unsigned i = 0; i < 100; ++i) {
    up.insert(i, key_of(i * 10), view_of("value " + std::to_string(i)));
    const unsigned j = 99 - i;
    down.insert(0, key_of(j * 10), view_of("value " + std::to_string(j)));
  }
  up.erase(50);
  down.erase(50);
  REQUIRE(up.seal() == down.seal());
  REQUIRE(std::memcmp(up.bytes().data(), down.bytes().data(), kNodeSize) == 0);
}

TEST_CASE("an inner node finds the child whose range holds a key") {
  Node inner(kVolume, TreeId::fs, 1, kAddress, kBirth);
  inner.insert(0, Key::min(), NodePointer{LogicalOffset(4096), Generation(1), 5});
  for (unsigned i = 1; i < kMaxInnerEntries; ++i) {
    inner.insert(i, {i * 10, 0, 0}, NodePointer{LogicalOffset(i * 16384), Generation(2), i});
  }
  REQUIRE(inner.full());
  REQUIRE(inner.child_slot(Key::min()) == 0);
  REQUIRE(inner.child_slot({9, 255, 0}) == 0);
  REQUIRE(inner.child_slot({10, 0, 0}) == 1);
  REQUIRE(inner.child_slot(Key::max()) == kMaxInnerEntries - 1);
  REQUIRE(is_valid(inner));
  inner.erase(0);
  REQUIRE(inner.key(0) == Key::min());
  REQUIRE(inner.child_slot({1, 0, 0}) == 0);
  REQUIRE(inner.pointer(0).checksum == 1);
  REQUIRE(is_valid(inner));
}

TEST_CASE("a node that is not what its pointer says is refused") {
  Node leaf = make_leaf();
  for (unsigned i = 0; i < 20; ++i) leaf.insert(i, {i + 5, 1, 0}, view_of("abc"));
  const NodeExpectation right = expectation(leaf);
  REQUIRE(validate_node(leaf.bytes(), right, &kVolume));
  const auto refused = [&](auto change) {
    NodeExpectation wrong = right;
    change(wrong);
    return !validate_node(leaf.bytes(), wrong, &kVolume);
  };
  REQUIRE(refused([](auto& e) { e.pointer.address += kNodeSize; }));
  REQUIRE(refused([](auto& e) { ++e.pointer.birth; }));
  REQUIRE(refused([](auto& e) { ++e.pointer.checksum; }));
  REQUIRE(refused([](auto& e) { e.tree = TreeId::extent; }));
  REQUIRE(refused([](auto& e) { e.level = 1; }));
  REQUIRE(refused([](auto& e) { e.lower = {6, 0, 0}; }));
  REQUIRE(refused([](auto& e) { e.upper = {24, 1, 0}; }));
  REQUIRE(!refused([](auto& e) { e.upper = {24, 1, 1}; }));
  const Uuid other{{9}};
  REQUIRE(!validate_node(leaf.bytes(), right, &other));
  REQUIRE(!validate_node(leaf.bytes().first(8192), right, &kVolume));
}

TEST_CASE("every flipped byte of a node is seen, also under a right checksum where it matters") {
  std::mt19937_64 random(3);
  for (unsigned level : {0u, 1u}) {
    Node node(kVolume, TreeId::fs, static_cast<uint8_t>(level), kAddress, kBirth);
    for (unsigned i = 0; i < 60; ++i) {
      const Key key = i == 0 && level == 1 ? Key::min() : Key{i, 1, i};
      if (level == 0) {
        node.insert(i, key, view_of(std::string(i * 3, 'v')));
      } else {
        node.insert(i, key, NodePointer{LogicalOffset(i * 16384), Generation(3), i});
      }
    }
    const NodeExpectation expected = expectation(node);
    for (int round = 0; round < 3000; ++round) {
      AlignedBuffer bytes = copy_of(node);
      const size_t flips = 1 + random() % 4;
      // Mostly where the structure is.
      const size_t reach = round % 4 == 0 ? kNodeSize : 1500;
      for (size_t i = 0; i < flips; ++i) {
        bytes.data()[random() % reach] ^= static_cast<std::byte>(1 + random() % 255);
      }
      if (std::memcmp(bytes.data(), node.bytes().data(), kNodeSize) == 0) continue;
      REQUIRE(!validate_node(bytes.span(), expected, &kVolume));
      fix_checksum(bytes);
      if (!validate_node(bytes.span(), kAddress, kBirth)) continue;
      // It passes for a node: then it can be used as one.
      Node odd(std::move(bytes));
      REQUIRE(!describe(odd).empty());
      while (odd.count() > 1) odd.erase(random() % odd.count());
      if (odd.is_leaf()) odd.insert(odd.count(), Key::max(), view_of(std::string(3900, 'n')));
      odd.seal();
    }
  }
}

TEST_CASE("a value that is longer than an item can be is refused") {
  for (const size_t length : {kMaxItemBytes, kMaxItemBytes + 1, size_t{16'000}}) {
    Node leaf = make_leaf();
    leaf.insert(0, key_of(1), view_of(std::string(length, 'x')));
    CHECK(is_valid(leaf) == (length == kMaxItemBytes));
  }
}
