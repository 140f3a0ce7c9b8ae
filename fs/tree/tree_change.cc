// SPDX-License-Identifier: MIT
// The B+trees: preparing and making changes; splits, merges.
//
// All nodes on the path to a prepared key are in memory. They stay in memory until the critical
// section ends, whatever else is changed: new nodes are in memory, and merges involve only nodes
// in memory. A leaf that becomes empty is removed, and a neighbour takes over its keys: where the
// prepared erasures may empty a leaf, both neighbours are in memory, too.
#include <algorithm>

#include "alloc/base/assert.h"
#include "fs/tree/access.h"
#include "fs/tree/cursor.h"
#include "fs/tree/tree.h"

namespace moltfs::fs {
namespace {

/// A node with less than kSparseBytes is merged with a sibling if both together have at most
/// kMergedBytes: the room left keeps the next insert from splitting them again.
constexpr size_t kSparseBytes = kNodeCapacity / 4;
constexpr size_t kMergedBytes = kNodeCapacity - kNodeCapacity / 8;

/// One change of one tree, at the end of a prepared cursor.
class Change {
 public:
  Change(TreeState& state, alloc::NodeReservation& reservation, TreeId tree, const Key& key)
      : state_(state),
        reservation_(reservation),
        tree_(tree),
        key_(key),
        cursor_(state, tree, missing_) {
    auto found = cursor_.descend(key);
    ASSERT(found);  // the key was prepared
  }

  Node& leaf() { return cursor_.leaf(); }
  /// The slot of the key, or the slot where it would be inserted.
  unsigned slot() { return leaf().lower_bound(key_); }
  bool present() { return slot() < leaf().count() && leaf().key(slot()) == key_; }

  void insert(ConstBytes value);
  void update(ConstBytes value);
  void erase();

 private:
  void make_path_writable();
  void insert_into_leaf(ConstBytes value);
  Node& split_leaf(unsigned at, ConstBytes value);
  void add_to_parent(unsigned depth, Node& new_right, const Key& separator);
  void grow(Node& new_right, const Key& separator);
  void shrink_upward();
  bool merge_with_sibling(unsigned depth);
  bool try_merge(unsigned depth, unsigned left_slot);
  void replace_root_by_only_child();
  TreeRoot& root() { return state_.root(tree_); }

  TreeState& state_;
  alloc::NodeReservation& reservation_;
  const TreeId tree_;
  const Key key_;
  std::vector<NodeExpectation> missing_;  // stays empty
  Cursor cursor_;
};

void Change::make_path_writable() {
  // The parents of a running node are running.
  if (state_.is_running(leaf())) return;
  for (unsigned depth = 0; depth <= cursor_.leaf_depth(); ++depth) {
    Node& old = cursor_.node(depth);
    if (state_.is_running(old)) continue;
    Node& node = state_.make_writable(reservation_, old);
    cursor_.set_node(depth, node);
    if (depth == 0) {
      root().node = state_.pointer_to(node);
    } else {
      cursor_.node(depth - 1).set_pointer(cursor_.slot(depth - 1), state_.pointer_to(node));
    }
  }
}

// ---- Inserting

void Change::insert(ConstBytes value) {
  make_path_writable();
  state_.note({tree_, key_});
  insert_into_leaf(value);
}

void Change::update(ConstBytes value) {
  make_path_writable();
  state_.note({tree_, key_});
  const unsigned at = slot();
  if (leaf().replace(at, value)) return;
  leaf().erase(at);
  insert_into_leaf(value);
}

void Change::insert_into_leaf(ConstBytes value) {
  const unsigned at = slot();
  if (leaf().fits(value.size())) {
    leaf().insert(at, key_, value);
    return;
  }
  Node& right = split_leaf(at, value);
  add_to_parent(cursor_.leaf_depth(), right, right.key(0));
}

/// How many of `count` + 1 items stay in the left node if a new item of `new_bytes` is inserted at
/// slot `at`. Ascending and descending inserts leave full nodes behind; else the halves are even.
unsigned choose_split(const Node& node, unsigned at, size_t new_bytes) {
  const unsigned count = node.count();
  const bool in_sequence =
      at == 0 || at == count || at == node.last_insert() + 1 || at == node.last_insert();
  const size_t total = node.used_bytes() + new_bytes;
  unsigned preferred = 0, evenest = 0;
  size_t least_difference = SIZE_MAX;
  size_t left = 0;
  for (unsigned stay = 1; stay <= count; ++stay) {
    const unsigned last = stay - 1;  // slot in the left node, counting the new item
    left += last == at ? new_bytes : node.item_bytes(last < at ? last : last - 1);
    const size_t right = total - left;
    if (left > kNodeCapacity || right > kNodeCapacity) continue;
    if (in_sequence && (stay == at || stay == at + 1)) preferred = stay;
    const size_t difference = left > right ? left - right : right - left;
    if (difference < least_difference) {
      least_difference = difference;
      evenest = stay;
    }
  }
  ASSERT(evenest > 0);  // kMaxItemBytes leaves room for four items in a leaf
  return preferred > 0 ? preferred : evenest;
}

/// Returns the new right node. The new item is in one of the two.
Node& Change::split_leaf(unsigned at, ConstBytes value) {
  Node& left = leaf();
  const unsigned stay = choose_split(left, at, sizeof(LeafSlot) + value.size());
  Node& right = state_.make_node(reservation_, tree_, 0);
  if (at < stay) {
    left.move_tail(stay - 1, right);
    left.insert(at, key_, value);
  } else {
    left.move_tail(stay, right);
    right.insert(at - stay, key_, value);
  }
  return right;
}

/// The node at `depth` was split: inserts `new_right` after it.
void Change::add_to_parent(unsigned depth, Node& new_right, const Key& separator) {
  if (depth == 0) return grow(new_right, separator);
  Node& parent = cursor_.node(depth - 1);
  const unsigned at = cursor_.slot(depth - 1) + 1;
  const NodePointer pointer = state_.pointer_to(new_right);
  if (!parent.full()) {
    parent.insert(at, separator, pointer);
    return;
  }
  const unsigned stay = choose_split(parent, at, sizeof(InnerSlot));
  Node& right = state_.make_node(reservation_, tree_, parent.level());
  if (at < stay) {
    parent.move_tail(stay - 1, right);
    parent.insert(at, separator, pointer);
  } else {
    parent.move_tail(stay, right);
    right.insert(at - stay, separator, pointer);
  }
  const Key right_starts = right.key(0);
  right.set_key(0, Key::min());
  add_to_parent(depth - 1, right, right_starts);
}

void Change::grow(Node& new_right, const Key& separator) {
  Node& old_root = cursor_.node(0);
  ASSERT(old_root.level() + 1u < kMaxTreeHeight);
  Node& top = state_.make_node(reservation_, tree_, static_cast<uint8_t>(old_root.level() + 1));
  top.insert(0, Key::min(), state_.pointer_to(old_root));
  top.insert(1, separator, state_.pointer_to(new_right));
  root() = {state_.pointer_to(top), top.level()};
}

// ---- Erasing

void Change::erase() {
  make_path_writable();
  state_.note({tree_, key_});
  leaf().erase(slot());
  shrink_upward();
  replace_root_by_only_child();
}

/// From the leaf up: removes empty nodes, merges sparse ones.
void Change::shrink_upward() {
  for (unsigned depth = cursor_.leaf_depth(); depth > 0; --depth) {
    Node& node = cursor_.node(depth);
    if (node.count() == 0) {
      cursor_.node(depth - 1).erase(cursor_.slot(depth - 1));
      state_.drop(node);
    } else if (node.used_bytes() >= kSparseBytes || !merge_with_sibling(depth)) {
      return;
    }
  }
  Node& top = cursor_.node(0);
  if (top.count() == 0 && !top.is_leaf()) {
    top.become_leaf();
    root().level = 0;
  }
}

bool Change::merge_with_sibling(unsigned depth) {
  const unsigned slot = cursor_.slot(depth - 1);
  return (slot > 0 && try_merge(depth, slot - 1)) ||
         (slot + 1 < cursor_.node(depth - 1).count() && try_merge(depth, slot));
}

/// Merges the children `left_slot` and `left_slot` + 1 of the node above `depth`, if both are in
/// memory and fit into one. One of them is on the path, hence running.
bool Change::try_merge(unsigned depth, unsigned left_slot) {
  Node& parent = cursor_.node(depth - 1);
  Node* left = cursor_.child_in_memory(depth - 1, left_slot);
  Node* right = cursor_.child_in_memory(depth - 1, left_slot + 1);
  if (left == nullptr || right == nullptr) return false;
  if (left->used_bytes() + right->used_bytes() > kMergedBytes) return false;
  if (!state_.is_running(*left)) {
    left = &state_.make_writable(reservation_, *left);
    parent.set_pointer(left_slot, state_.pointer_to(*left));
  }
  const unsigned joint = left->count();
  left->append(*right, 0);
  if (!left->is_leaf()) left->set_key(joint, parent.key(left_slot + 1));
  parent.erase(left_slot + 1);
  state_.drop(*right);
  return true;
}

void Change::replace_root_by_only_child() {
  for (;;) {
    const auto* top = state_.cache.find(root().node);
    if (top == nullptr || (*top)->is_leaf() || (*top)->count() != 1) return;
    const NodePointer child = (*top)->pointer(0);
    const auto level = static_cast<uint8_t>((*top)->level() - 1);
    state_.drop(**top);
    root() = {child, level};
  }
}

/// Error: node_missing, if a neighbour of the leaf of `cursor` is not in memory.
Result<void> require_neighbours(const Cursor& cursor) {
  Cursor before = cursor, after = cursor;
  TRY(before.to_previous_leaf());
  TRY(after.to_next_leaf());
  return ok();
}

/// Error: node_missing, if erasing `key` (`cursor` is at its leaf) has to merge nodes and no
/// sibling is in memory.
Result<void> require_siblings(Cursor& cursor, const Key& key) {
  unsigned slot = cursor.leaf().lower_bound(key);
  if (slot == cursor.leaf().count()) return ok();  // the key is absent
  for (unsigned depth = cursor.leaf_depth(); depth > 0; --depth) {
    const Node& node = cursor.node(depth);
    const size_t left = node.used_bytes() - node.item_bytes(slot);
    if (left >= kSparseBytes) return ok();
    slot = cursor.slot(depth - 1);
    if (left == 0) continue;  // the node will be removed
    const bool has_left = slot > 0, has_right = slot + 1 < cursor.node(depth - 1).count();
    if (has_left && cursor.child_in_memory(depth - 1, slot - 1) != nullptr) continue;
    if (has_right && cursor.child_in_memory(depth - 1, slot + 1) != nullptr) continue;
    if (has_left) {
      TRY(cursor.child(depth - 1, slot - 1));
    } else if (has_right) {
      TRY(cursor.child(depth - 1, slot + 1));
    }
  }
  return ok();
}

}  // namespace

Result<void> Tree::prepare(Txn& txn, const Key& key, Intent intent) const {
  ASSERT(key != Key::max());
  Cursor cursor(txn.state_, id_, txn.missing_);
  TRY(cursor.descend(key));
  if (intent == Intent::erase) {
    const Node& leaf = cursor.leaf();
    auto found = std::find_if(txn.erasures_.begin(), txn.erasures_.end(),
                              [&](const auto& entry) { return entry.first == &leaf; });
    if (found == txn.erasures_.end()) found = txn.erasures_.insert(found, {&leaf, 0});
    if (++found->second >= leaf.count()) {
      TRY(require_neighbours(cursor));
    }
    return require_siblings(cursor, key);
  }
  // A tree of this height has more items than any device holds, if its nodes are not made up. The
  // changes of one critical section are far fewer than the entries that are still free then.
  const Node& root = cursor.node(0);
  if (root.level() + 1u == kMaxTreeHeight && root.count() > kMaxInnerEntries / 2) {
    return Error(Errc::no_space, "the tree cannot become higher");
  }
  return ok();
}

void Tree::insert(Txn& txn, const Key& key, ConstBytes value) const {
  ASSERT(value.size() <= kMaxItemBytes);
  Change change(txn.state_, txn.reservation_, id_, key);
  ASSERT(!change.present());
  change.insert(value);
}

void Tree::update(Txn& txn, const Key& key, ConstBytes value) const {
  ASSERT(value.size() <= kMaxItemBytes);
  Change change(txn.state_, txn.reservation_, id_, key);
  ASSERT(change.present());
  change.update(value);
}

void Tree::erase(Txn& txn, const Key& key) const {
  Change change(txn.state_, txn.reservation_, id_, key);
  ASSERT(change.present());
  change.erase();
}

void Tree::put(Txn& txn, const Key& key, ConstBytes value) const {
  ASSERT(value.size() <= kMaxItemBytes);
  Change change(txn.state_, txn.reservation_, id_, key);
  if (change.present()) {
    change.update(value);
  } else {
    change.insert(value);
  }
}

}  // namespace moltfs::fs
