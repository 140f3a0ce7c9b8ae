// SPDX-License-Identifier: MIT
// A way from a tree's root to a leaf, through nodes in memory.
#pragma once

#include <array>
#include <vector>

#include "fs/tree/state.h"

namespace moltfs::fs {

/// Valid until the tree changes or the critical section ends. Errors: node_missing; `missing` then
/// says which nodes to load (the first is needed, the others soon will be).
class Path {
 public:
  Path(TreeState& state, TreeId tree, std::vector<NodeExpectation>& missing)
      : state_(state), tree_(tree), missing_(missing) {}

  /// To the leaf whose range holds `key`. If it is missing and those before it were, too, those
  /// after it are asked for.
  Result<void> descend(const Key& key);
  /// To the neighbouring leaf; false (and no move) if there is none. On the way to the next leaf,
  /// further ones that hold keys up to `read_ahead` are asked for if the next is missing.
  Result<bool> to_next_leaf(const Key* read_ahead = nullptr);
  Result<bool> to_previous_leaf();
  /// A child of the node at `depth`. Error: node_missing.
  Result<Node*> child(unsigned depth, unsigned slot);
  /// The same if it is in memory, else null.
  Node* child_in_memory(unsigned depth, unsigned slot);

  /// Depth 0 is the root.
  unsigned leaf_depth() const { return length_ - 1; }
  Node& node(unsigned depth) { return *steps_[depth].node; }
  Node& leaf() { return node(leaf_depth()); }
  /// Of the way down; meaningless for the leaf.
  unsigned slot(unsigned depth) const { return steps_[depth].slot; }
  void set_node(unsigned depth, Node& node) { steps_[depth].node = &node; }

 private:
  struct Step {
    Node* node = nullptr;
    unsigned slot = 0;
  };
  Error miss(unsigned depth, unsigned slot);
  NodeExpectation expectation(unsigned depth, unsigned slot) const;
  void ask_ahead(unsigned depth, unsigned first, const Key& last);
  void ask_in_sequence(unsigned depth, unsigned slot);

  TreeState& state_;
  const TreeId tree_;
  std::vector<NodeExpectation>& missing_;
  std::array<Step, kMaxTreeHeight> steps_;
  unsigned length_ = 0;
};

}  // namespace moltfs::fs
