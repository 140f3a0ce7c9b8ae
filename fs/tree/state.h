// SPDX-License-Identifier: MIT
// The running state of both trees: roots, counters, nodes in memory. Guarded by the lock of the
// transactions; what Tree works on.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "alloc/base/uuid.h"
#include "alloc/space/space.h"
#include "fs/tree/cache.h"
#include "fs/tree/log_content.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

/// Sees by their misses who reads a tree from leaf to leaf, by looking up one key after the other.
class Sequences {
 public:
  /// The leaf that begins at `first` is missing: true if somebody was expected there.
  bool continues(TreeId tree, const Key& first) {
    const auto found = std::find(next_.begin(), next_.end(), Place{tree, first});
    if (found == next_.end()) return false;
    found->key = Key::max();
    return true;
  }
  /// Leaves before `next` are being loaded.
  void expect(TreeId tree, const Key& next) { next_[turn_++ % next_.size()] = {tree, next}; }

 private:
  struct Place {
    TreeId tree = TreeId::fs;
    Key key = Key::max();  // no leaf begins there
    bool operator==(const Place&) const = default;
  };
  std::array<Place, 8> next_;
  size_t turn_ = 0;
};

struct TreeState {
  TreeState(alloc::Space& the_space, const Uuid& volume_uuid, uint64_t cache_bytes)
      : space(the_space), volume(volume_uuid), cache(cache_bytes) {}

  alloc::Space& space;
  const Uuid volume;
  Generation running;
  std::array<TreeRoot, kTreeCount> roots;
  FsCounters counters;
  uint64_t changes = 0;         ///< made so far, and
  uint64_t changes_closed = 0;  ///< as of the last closing
  /// Of the fsync log's chains: who is told which items change.
  std::array<ChangedKeys*, 2> listeners{};
  NodeCache cache;
  Sequences sequences;
  /// Nodes born in the running transaction. Ordered, for they are written in this order.
  std::map<LogicalOffset, std::shared_ptr<Node>> dirty;

  TreeRoot& root(TreeId tree) { return roots[static_cast<size_t>(tree) - 1]; }
  const TreeRoot& root(TreeId tree) const { return roots[static_cast<size_t>(tree) - 1]; }
  bool changed() const { return changes != changes_closed; }
  /// An item changes, comes or goes.
  void note(const ItemId& item) {
    ++changes;
    for (ChangedKeys* listener : listeners) {
      if (listener != nullptr) listener->note(item);
    }
  }
  unsigned tallest() const {  ///< levels of the taller tree
    return 1u + std::max(roots[0].level, roots[1].level);
  }
  /// How many nodes changing `item_changes` items takes at most.
  uint64_t nodes_for(unsigned item_changes) const;

  bool is_running(const Node& node) const { return node.birth() == running; }
  /// A new, empty node of the running transaction.
  Node& make_node(alloc::NodeReservation& reservation, TreeId tree, uint8_t level);
  /// The same node born in the running transaction: itself or a copy at a new address. Whoever
  /// points to it must be told.
  Node& make_writable(alloc::NodeReservation& reservation, Node& node);
  /// The node leaves its tree.
  void drop(Node& node);
  NodePointer pointer_to(const Node& node) const { return {node.address(), node.birth(), 0}; }

  using ClosedNodes = std::map<LogicalOffset, std::shared_ptr<Node>>;
  /// Computes the checksums of the running transaction's nodes, children first, and opens the next
  /// transaction. Returns the closed one's nodes, which never change from now on.
  void seal_nodes();
  ClosedNodes open_next();

 private:
  uint64_t seal(Node& node);
};

}  // namespace moltfs::fs
