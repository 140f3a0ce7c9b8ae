// SPDX-License-Identifier: MIT
// Cursors: descending, moving between leaves, reading ahead.
#include "fs/tree/cursor.h"

#include "alloc/base/assert.h"

namespace moltfs::fs {
namespace {
constexpr unsigned kReadAheadNodes = 16;
}

Node* Cursor::child_in_memory(unsigned depth, unsigned slot) {
  Node& parent = node(depth);
  const auto* found = state_.cache.find(parent.pointer(slot));
  // Level and tree were checked when the node was read, but a damaged tree may point to it twice.
  if (found == nullptr || (*found)->level() + 1 != parent.level() || (*found)->tree() != tree_) {
    return nullptr;
  }
  return found->get();
}

NodeExpectation Cursor::expectation(unsigned depth, unsigned slot) const {
  const Node& parent = *steps_[depth].node;
  NodeExpectation expected;
  expected.tree = tree_;
  expected.level = static_cast<uint8_t>(parent.level() - 1);
  expected.pointer = parent.pointer(slot);
  for (unsigned d = 0; d <= depth; ++d) {
    const Node& above = *steps_[d].node;
    const unsigned s = d == depth ? slot : steps_[d].slot;
    if (s > 0) expected.lower = above.key(s);
    if (s + 1 < above.count()) expected.upper = above.key(s + 1);
  }
  return expected;
}

Error Cursor::miss(unsigned depth, unsigned slot) {
  missing_.assign(1, expectation(depth, slot));
  return Errc::node_missing;
}

Result<Node*> Cursor::child(unsigned depth, unsigned slot) {
  if (Node* found = child_in_memory(depth, slot)) return found;
  return miss(depth, slot);
}

Result<void> Cursor::descend(const Key& key) {
  const TreeRoot& root = state_.root(tree_);
  const auto* top = state_.cache.find(root.node);
  if (top == nullptr) {
    missing_.assign(1, {tree_, root.level, root.node});
    return Errc::node_missing;
  }
  steps_[0] = {top->get(), 0};
  length_ = root.level + 1u;
  for (unsigned depth = 0; depth + 1 < length_; ++depth) {
    const unsigned slot = node(depth).child_slot(key);
    steps_[depth].slot = slot;
    auto next = child(depth, slot);
    if (!next) {
      if (depth + 2 == length_) detect_sequence(depth, slot);
      return next.error();
    }
    steps_[depth + 1].node = next.value();
  }
  return ok();
}

/// Reads ahead after a miss. REQUIRES: the leaf at `slot` is the first of missing_.
void Cursor::detect_sequence(unsigned depth, unsigned slot) {
  Node& parent = node(depth);
  unsigned last = slot;
  if (state_.readahead.continues(tree_, missing_.front().lower)) {
    last = std::min(parent.count() - 1, slot + kReadAheadNodes);
    request_ahead(depth, slot + 1, Key::max());
  }
  state_.readahead.expect(tree_, expectation(depth, last).upper);
}

void Cursor::request_ahead(unsigned depth, unsigned first, const Key& last) {
  Node& parent = node(depth);
  const unsigned end = std::min(parent.count(), first + kReadAheadNodes);
  for (unsigned slot = first; slot < end && parent.key(slot) <= last; ++slot) {
    if (child_in_memory(depth, slot) == nullptr) missing_.push_back(expectation(depth, slot));
  }
}

Result<bool> Cursor::to_next_leaf(const Key* read_ahead) {
  unsigned depth = leaf_depth();
  do {
    if (depth == 0) return false;
    --depth;
  } while (slot(depth) + 1 >= node(depth).count());
  ++steps_[depth].slot;
  for (; depth < leaf_depth(); ++depth) {
    auto next = child(depth, slot(depth));
    if (!next) {
      if (read_ahead != nullptr && depth + 1 == leaf_depth()) {
        request_ahead(depth, slot(depth) + 1, *read_ahead);
      }
      return next.error();
    }
    steps_[depth + 1] = {next.value(), 0};
  }
  return true;
}

Result<bool> Cursor::to_previous_leaf() {
  unsigned depth = leaf_depth();
  do {
    if (depth == 0) return false;
    --depth;
  } while (slot(depth) == 0);
  --steps_[depth].slot;
  for (; depth < leaf_depth(); ++depth) {
    TRY(auto next, child(depth, slot(depth)));
    const unsigned last = next->count() == 0 ? 0 : next->count() - 1;
    steps_[depth + 1] = {next, last};
  }
  return true;
}

}  // namespace moltfs::fs
