// SPDX-License-Identifier: MIT
// A cursor: the path from a tree's root to a leaf, through nodes in memory.
#pragma once

#include <array>
#include <vector>

#include "fs/tree/state.h"

namespace moltfs::fs {

/// Valid until the tree changes or the critical section ends. Error: node_missing; `missing` then
/// says which nodes to load (the first is needed, the others are read ahead).
class Cursor {
 public:
  Cursor(TreeState& state, TreeId tree, std::vector<NodeExpectation>& missing)
      : state_(state), tree_(tree), missing_(missing) {}

  /// Moves to the leaf whose range holds `key`. If that leaf is missing and the leaves before it
  /// were, too, the following ones are read ahead.
  Result<void> descend(const Key& key);
  /// Moves to the neighbouring leaf; false (and no move) if there is none. If the next leaf is
  /// missing, further leaves with keys up to `read_ahead` are requested together with it.
  Result<bool> to_next_leaf(const Key* read_ahead = nullptr);
  Result<bool> to_previous_leaf();
  /// A child of the node at `depth`. Error: node_missing.
  Result<Node*> child(unsigned depth, unsigned slot);
  /// The same child if it is in memory, else null.
  Node* child_in_memory(unsigned depth, unsigned slot);

  /// Depth 0 is the root.
  unsigned leaf_depth() const { return length_ - 1; }
  Node& node(unsigned depth) { return *steps_[depth].node; }
  Node& leaf() { return node(leaf_depth()); }
  /// The slot taken on the way down. Meaningless for the leaf.
  unsigned slot(unsigned depth) const { return steps_[depth].slot; }
  void set_node(unsigned depth, Node& node) { steps_[depth].node = &node; }

 private:
  struct Step {
    Node* node = nullptr;
    unsigned slot = 0;
  };
  Error miss(unsigned depth, unsigned slot);
  NodeExpectation expectation(unsigned depth, unsigned slot) const;
  void request_ahead(unsigned depth, unsigned first, const Key& last);
  void detect_sequence(unsigned depth, unsigned slot);

  TreeState& state_;
  const TreeId tree_;
  std::vector<NodeExpectation>& missing_;
  std::array<Step, kMaxTreeHeight> steps_;
  unsigned length_ = 0;
};

}  // namespace moltfs::fs
