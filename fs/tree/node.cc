// SPDX-License-Identifier: MIT
// Tree nodes: searching, changing in memory, sealing.
#include "fs/tree/node.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"

namespace moltfs::fs {
namespace {

Key decode(const KeyOnDisk& key) {
  return {key.object, key.type, key.offset};
}

KeyOnDisk encode(const Key& key) {
  KeyOnDisk out;
  out.object = key.object;
  out.type = key.type;
  out.offset = key.offset;
  return out;
}

void copy_bytes(std::byte* to, ConstBytes from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

}  // namespace

Node::Node(const Uuid& volume, TreeId tree, uint8_t level, LogicalOffset address, Generation birth)
    : bytes_(kNodeSize) {
  bytes_.fill_zero();
  NodeHeader& h = header();
  h.magic = kNodeMagic;
  h.version = kNodeVersion;
  h.tree = static_cast<uint8_t>(tree);
  h.level = level;
  h.volume = volume.bytes;
  h.address = address.value;
  h.birth = birth.value;
  h.values_start = kNodeSize;
}

Node::Node(const Node& other)
    : bytes_(kNodeSize),
      garbage_bytes_(other.garbage_bytes_),
      tidy_(other.tidy_),
      last_insert_(other.last_insert_) {
  std::memcpy(bytes_.data(), other.bytes_.data(), kNodeSize);
}

void Node::relocate(LogicalOffset address, Generation birth) {
  header().address = address.value;
  header().birth = birth.value;
  header().checksum = 0;
}

void Node::become_leaf() {
  ASSERT(count() == 0);
  header().level = 0;
  header().values_start = kNodeSize;
}

Key Node::key(unsigned slot) const {
  return is_leaf() ? decode(leaf_slots()[slot].key) : decode(entries()[slot].key);
}

namespace {

/// First slot in [first, count) for whose key `before` is false.
template <class Slot, class Before>
unsigned search(const Slot* slots, unsigned first, unsigned count, const Before& before) {
  while (first < count) {
    const unsigned middle = (first + count) / 2;
    if (before(decode(slots[middle].key))) {
      first = middle + 1;
    } else {
      count = middle;
    }
  }
  return first;
}

}  // namespace

unsigned Node::lower_bound(const Key& wanted) const {
  const auto before = [&](const Key& key) { return key < wanted; };
  return is_leaf() ? search(leaf_slots(), 0, count(), before)
                   : search(entries(), 0, count(), before);
}

unsigned Node::upper_bound(const Key& wanted) const {
  const auto before = [&](const Key& key) { return key <= wanted; };
  return is_leaf() ? search(leaf_slots(), 0, count(), before)
                   : search(entries(), 0, count(), before);
}

unsigned Node::child_slot(const Key& wanted) const {
  const auto before = [&](const Key& key) { return key <= wanted; };
  return search(entries(), 1, count(), before) - 1;
}

ConstBytes Node::value(unsigned slot) const {
  const LeafSlot& s = leaf_slots()[slot];
  return bytes().subspan(s.offset, s.length);
}

NodePointer Node::pointer(unsigned slot) const {
  const InnerSlot& e = entries()[slot];
  return {LogicalOffset(e.address), Generation(e.birth), e.checksum};
}

size_t Node::gap_bytes() const {
  return header().values_start - sizeof(NodeHeader) - count() * slot_bytes();
}

size_t Node::used_bytes() const {
  return count() * slot_bytes() + (kNodeSize - header().values_start) - garbage_bytes_;
}

size_t Node::item_bytes(unsigned slot) const {
  return is_leaf() ? sizeof(LeafSlot) + leaf_slots()[slot].length : sizeof(InnerSlot);
}

void Node::open_slot(unsigned slot) {
  ASSERT(slot <= count());
  std::byte* at = slot_at(slot);
  std::memmove(at + slot_bytes(), at, (count() - slot) * slot_bytes());
  header().count = static_cast<uint16_t>(count() + 1);
  last_insert_ = slot;
}

void Node::insert(unsigned slot, const Key& new_key, ConstBytes value) {
  ASSERT(is_leaf() && fits(value.size()));
  if (gap_bytes() < sizeof(LeafSlot) + value.size()) tidy();
  if (slot != count()) tidy_ = false;
  const size_t offset = header().values_start - value.size();
  open_slot(slot);
  copy_bytes(bytes_.data() + offset, value);
  LeafSlot& s = leaf_slots()[slot];
  s.key = encode(new_key);
  s.offset = static_cast<uint16_t>(offset);
  s.length = static_cast<uint16_t>(value.size());
  header().values_start = static_cast<uint16_t>(offset);
}

bool Node::replace(unsigned slot, ConstBytes value) {
  LeafSlot& s = leaf_slots()[slot];
  const size_t old_length = s.length;
  if (value.size() <= old_length) {
    copy_bytes(bytes_.data() + s.offset, value);
  } else {
    if (used_bytes() - old_length + value.size() > kNodeCapacity) return false;
    s.length = 0;
    garbage_bytes_ += old_length;
    tidy_ = false;
    if (gap_bytes() < value.size()) tidy();
    const size_t offset = header().values_start - value.size();
    copy_bytes(bytes_.data() + offset, value);
    leaf_slots()[slot].offset = static_cast<uint16_t>(offset);
    header().values_start = static_cast<uint16_t>(offset);
    tidy_ = false;  // again: the new value lies below all others
  }
  if (value.size() < old_length) {
    garbage_bytes_ += old_length - value.size();
    tidy_ = false;
  }
  leaf_slots()[slot].length = static_cast<uint16_t>(value.size());
  return true;
}

void Node::insert(unsigned slot, const Key& new_key, const NodePointer& pointer) {
  ASSERT(!is_leaf() && !full());
  open_slot(slot);
  set_key(slot, new_key);
  set_pointer(slot, pointer);
}

void Node::set_pointer(unsigned slot, const NodePointer& pointer) {
  InnerSlot& e = entries()[slot];
  e.address = pointer.address.value;
  e.birth = pointer.birth.value;
  e.checksum = pointer.checksum;
}

void Node::set_key(unsigned slot, const Key& new_key) {
  entries()[slot].key = encode(new_key);
}

void Node::erase(unsigned slot) {
  ASSERT(slot < count());
  if (is_leaf()) {
    garbage_bytes_ += leaf_slots()[slot].length;
    tidy_ = false;
  }
  std::byte* at = slot_at(slot);
  const size_t following = (count() - slot - 1) * slot_bytes();
  std::memmove(at, at + slot_bytes(), following);
  std::memset(at + following, 0, slot_bytes());
  header().count = static_cast<uint16_t>(count() - 1);
  last_insert_ = kNoInsert;
  if (!is_leaf() && slot == 0 && count() > 0) set_key(0, Key::min());
}

void Node::truncate(unsigned new_count) {
  if (is_leaf()) {
    for (unsigned slot = new_count; slot < count(); ++slot) {
      garbage_bytes_ += leaf_slots()[slot].length;
    }
    tidy_ = false;
  }
  std::memset(slot_at(new_count), 0, (count() - new_count) * slot_bytes());
  header().count = static_cast<uint16_t>(new_count);
  last_insert_ = kNoInsert;
}

void Node::append(const Node& from, unsigned first) {
  ASSERT(level() == from.level());
  for (unsigned slot = first; slot < from.count(); ++slot) {
    if (is_leaf()) {
      insert(count(), from.key(slot), from.value(slot));
    } else {
      insert(count(), from.key(slot), from.pointer(slot));
    }
  }
  last_insert_ = kNoInsert;
}

void Node::move_tail(unsigned first, Node& to) {
  to.append(*this, first);
  truncate(first);
}

void Node::tidy() {
  if (tidy_) return;
  AlignedBuffer fresh(kNodeSize);
  const size_t head = sizeof(NodeHeader) + count() * sizeof(LeafSlot);
  std::memcpy(fresh.data(), bytes_.data(), head);
  auto* slots = reinterpret_cast<LeafSlot*>(fresh.data() + sizeof(NodeHeader));
  size_t end = kNodeSize;
  for (unsigned i = 0; i < count(); ++i) {
    const ConstBytes from = value(i);
    end -= from.size();
    copy_bytes(fresh.data() + end, from);
    slots[i].offset = static_cast<uint16_t>(end);
  }
  std::memset(fresh.data() + head, 0, end - head);
  bytes_ = std::move(fresh);
  header().values_start = static_cast<uint16_t>(end);
  garbage_bytes_ = 0;
  tidy_ = true;
}

uint64_t Node::seal() {
  tidy();
  const uint64_t sum = checksum_of(bytes().subspan(sizeof(NodeHeader::checksum)));
  header().checksum = sum;
  return sum;
}

std::vector<NodeExpectation> children_of(const Node& node, const NodeExpectation& expected) {
  std::vector<NodeExpectation> children(node.count());
  for (unsigned i = 0; i < node.count(); ++i) {
    NodeExpectation& child = children[i];
    child.tree = expected.tree;
    child.level = static_cast<uint8_t>(expected.level - 1);
    child.pointer = node.pointer(i);
    child.lower = i == 0 ? expected.lower : node.key(i);
    child.upper = i + 1 == node.count() ? expected.upper : node.key(i + 1);
  }
  return children;
}

}  // namespace moltfs::fs
