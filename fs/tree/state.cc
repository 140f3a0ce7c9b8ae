// SPDX-License-Identifier: MIT
// The running state of both trees: copy-on-write of nodes, closing.
#include "fs/tree/state.h"

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::fs {

// On each level except the root's, a change copies at most one node and adds (split) or copies
// (merge) at most one more. A root is copied, split and put under a new root at most once: its
// halves can be full again only after more than a hundred further inserts.
uint64_t TreeState::nodes_for(unsigned item_changes, unsigned tallest) {
  const uint64_t below_root = std::max(1u, tallest - 1);
  return 2 * item_changes * below_root + 4 * kTreeCount + item_changes / 64;
}

Node& TreeState::make_node(alloc::NodeReservation& reservation, TreeId tree, uint8_t level) {
  ++changes;  // before the first change: Transactions counts on that when memory runs out
  const LogicalOffset address = space.allocate_node(reservation, running);
  auto node = std::make_shared<Node>(volume, tree, level, address, running);
  Node& made = *node;
  cache.add_dirty(node);
  dirty.emplace(address, std::move(node));
  return made;
}

Node& TreeState::make_writable(alloc::NodeReservation& reservation, Node& node) {
  if (is_running(node)) return node;
  // A closed node that is not written yet must stay unchanged; any other node just moves.
  const auto* place = cache.find(pointer_to(node));
  ASSERT(place != nullptr && place->get() == &node);
  ++changes;
  auto writable = node.dirty ? std::make_shared<Node>(node) : *place;
  cache.remove(node);
  space.free_node(node.address(), running);
  writable->relocate(space.allocate_node(reservation, running), running);
  cache.add_dirty(writable);
  Node& made = *writable;
  dirty.emplace(made.address(), std::move(writable));
  return made;
}

void TreeState::drop(Node& node) {
  ++changes;
  const LogicalOffset address = node.address();
  if (is_running(node)) dirty.erase(address);
  space.free_node(address, running);
  cache.remove(node);  // may end its life
}

void TreeState::seal_nodes() {
  for (TreeRoot& root : roots) {
    if (root.node.birth != running) continue;
    const auto found = dirty.find(root.node.address);
    ASSERT(found != dirty.end());
    root.node.checksum = seal(*found->second);
  }
}

uint64_t TreeState::seal(Node& node) {
  if (!node.is_leaf()) {
    for (unsigned i = 0; i < node.count(); ++i) {
      NodePointer child = node.pointer(i);
      if (child.birth != running) continue;
      const auto found = dirty.find(child.address);
      ASSERT(found != dirty.end());
      child.checksum = seal(*found->second);
      node.set_pointer(i, child);
    }
  }
  return node.seal();
}

TreeState::ClosedNodes TreeState::open_next() {
  ++running;
  changes_closed = changes;
  return std::exchange(dirty, {});
}

}  // namespace moltfs::fs
