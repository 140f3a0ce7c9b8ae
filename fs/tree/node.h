// SPDX-License-Identifier: MIT
// A tree node: 16 KiB in memory exactly as on disk.
//
//   0        64                                values_start              16384
//   | header | slot 0 | slot 1 | ... ->  free  <- ... | value 1 | value 0 |      leaf
//   | header | entry 0 | entry 1 | ... ->                                 |      inner node
//
// Slots are sorted by key. While a leaf is being changed its values lie anywhere between
// values_start and the end. seal() brings them into the order of the slots, without gaps, fills the
// free bytes with zeros and computes the checksum. Only sealed nodes are written, so validation
// requires that order.
//
// Child i of an inner node holds the keys in [key(i), key(i + 1)). key(0) is always Key::min(): the
// first child holds all keys of the node's own range below key(1).
#pragma once

#include <boost/intrusive/list_hook.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/uuid.h"
#include "fs/tree/format.h"

namespace moltfs::fs {

struct Item {
  Key key;
  ConstBytes value;
};

/// What the pointer to a node and its place in the tree say about the node.
struct NodeExpectation {
  TreeId tree = TreeId::fs;
  uint8_t level = 0;
  NodePointer pointer;
  Key lower = Key::min();  ///< all its keys are >= lower
  Key upper = Key::max();  ///< and < upper
};

class Node {
 public:
  /// An empty node.
  Node(const Uuid& volume, TreeId tree, uint8_t level, LogicalOffset address, Generation birth);
  /// Takes bytes that have passed validate_node().
  explicit Node(AlignedBuffer bytes) : bytes_(std::move(bytes)) {}
  /// A copy of its bytes.
  Node(const Node& other);
  Node& operator=(const Node&) = delete;

  // ---- Header.
  LogicalOffset address() const { return LogicalOffset(header().address); }
  Generation birth() const { return Generation(header().birth); }
  TreeId tree() const { return static_cast<TreeId>(header().tree.value()); }
  uint8_t level() const { return header().level; }
  bool is_leaf() const { return level() == 0; }
  unsigned count() const { return header().count; }
  uint64_t checksum() const { return header().checksum; }
  ConstBytes bytes() const { return bytes_.span(); }
  /// Gives the node a new address, to be changed there in the transaction `birth`.
  void relocate(LogicalOffset address, Generation birth);
  /// Turns an inner node without entries into an empty leaf.
  void become_leaf();

  // ---- Search.
  Key key(unsigned slot) const;
  /// First slot with a key >= (lower), > (upper) `key`; count() if there is none.
  unsigned lower_bound(const Key& key) const;
  unsigned upper_bound(const Key& key) const;
  /// Inner node: the child whose range holds `key`.
  unsigned child_slot(const Key& key) const;

  // ---- Leaf.
  ConstBytes value(unsigned slot) const;
  bool fits(size_t value_bytes) const {
    return used_bytes() + sizeof(LeafSlot) + value_bytes <= kNodeCapacity;
  }
  /// REQUIRES: fits(value.size()), and `value` is not a view into this node.
  void insert(unsigned slot, const Key& key, ConstBytes value);
  /// False if the new value does not fit; then nothing has changed.
  bool replace(unsigned slot, ConstBytes value);

  // ---- Inner node.
  NodePointer pointer(unsigned slot) const;
  bool full() const { return count() == kMaxInnerEntries; }
  /// REQUIRES: !full().
  void insert(unsigned slot, const Key& key, const NodePointer& pointer);
  void set_pointer(unsigned slot, const NodePointer& pointer);
  void set_key(unsigned slot, const Key& key);

  // ---- Both.
  /// Bytes of slots and values, or of entries.
  size_t used_bytes() const;
  size_t item_bytes(unsigned slot) const;
  void erase(unsigned slot);  ///< inner node: the first remaining key becomes Key::min()
  /// Appends the items of `from` from slot `first` on. REQUIRES: they fit.
  void append(const Node& from, unsigned first);
  /// Moves the items from slot `first` on to the end of `to`. REQUIRES: they fit.
  void move_tail(unsigned first, Node& to);
  /// The slot of the last insert, to recognise ascending inserts. Lost on eviction.
  unsigned last_insert() const { return last_insert_; }
  static constexpr unsigned kNoInsert = UINT16_MAX;

  /// Brings the node into its on-disk form; returns its checksum.
  uint64_t seal();

  // ---- State, guarded by the lock of the transactions.
  bool dirty = false;          ///< not written yet: must not be evicted
  bool recently_used = false;  ///< second chance
  boost::intrusive::list_member_hook<> ring;

 private:
  NodeHeader& header() { return *reinterpret_cast<NodeHeader*>(bytes_.data()); }
  const NodeHeader& header() const { return *reinterpret_cast<const NodeHeader*>(bytes_.data()); }
  LeafSlot* leaf_slots() { return reinterpret_cast<LeafSlot*>(bytes_.data() + sizeof(NodeHeader)); }
  const LeafSlot* leaf_slots() const { return const_cast<Node*>(this)->leaf_slots(); }
  InnerSlot* entries() { return reinterpret_cast<InnerSlot*>(bytes_.data() + sizeof(NodeHeader)); }
  const InnerSlot* entries() const { return const_cast<Node*>(this)->entries(); }
  size_t slot_bytes() const { return is_leaf() ? sizeof(LeafSlot) : sizeof(InnerSlot); }
  std::byte* slot_at(unsigned slot) {
    return bytes_.data() + sizeof(NodeHeader) + slot * slot_bytes();
  }
  size_t gap_bytes() const;           ///< between slots and values
  void open_slot(unsigned slot);      ///< makes room in the slot array
  void truncate(unsigned new_count);  ///< removes the last items
  void tidy();                        ///< what seal() does, except the checksum

  AlignedBuffer bytes_;
  size_t garbage_bytes_ = 0;  ///< of values to which no slot refers
  bool tidy_ = true;          ///< values are in order, everything else is zero
  unsigned last_insert_ = kNoInsert;
};

/// What the pointers of an inner node say about its children. `expected` is of the node itself.
std::vector<NodeExpectation> children_of(const Node& node, const NodeExpectation& expected);

/// Checks every field and byte of a node that was read. `volume` null: the uuid of the volume is
/// not checked. Errors: checksum_mismatch, bad_node (the detail says what).
Result<void> validate_node(ConstBytes bytes, const NodeExpectation& expected, const Uuid* volume);
/// The checks that need only address and birth.
Result<void> validate_node(ConstBytes bytes, LogicalOffset address, Generation birth);

/// For `moltfs dump tree`. `item` describes an item of a leaf (null: its length).
std::string describe(const Node& node, const std::function<std::string(const Item&)>& item = {});
std::string describe(const Key& key);
std::string_view name_of(TreeId tree);  ///< "filesystem tree", "extent tree"

}  // namespace moltfs::fs
