// SPDX-License-Identifier: MIT
// The running state of both trees: roots, counters, nodes in memory. Tree works on it. Guarded by
// the lock of the transactions.
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

/// Detects from cache misses that an operation reads a tree leaf by leaf, by looking up one key
/// after the other.
class ReadaheadDetector {
 public:
  /// The leaf that begins at `first` is missing. True if expect() announced it.
  bool continues(TreeId tree, const Key& first) {
    const auto found = std::find(next_.begin(), next_.end(), Place{tree, first});
    if (found == next_.end()) return false;
    found->key = Key::max();
    return true;
  }
  /// The leaves before `next` are being loaded.
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
  uint64_t changes = 0;         ///< made so far
  uint64_t changes_closed = 0;  ///< made before the last closing
  /// Of the chains of the fsync log: they record which items change.
  std::array<ChangedKeys*, 2> listeners{};
  NodeCache cache;
  ReadaheadDetector readahead;
  /// Nodes born in the running transaction, in the order in which they will be written.
  std::map<LogicalOffset, std::shared_ptr<Node>> dirty;

  TreeRoot& root(TreeId tree) { return roots[static_cast<size_t>(tree) - 1]; }
  const TreeRoot& root(TreeId tree) const { return roots[static_cast<size_t>(tree) - 1]; }
  bool changed() const { return changes != changes_closed; }
  /// An item is inserted, changed or erased.
  void note(const ItemId& item) {
    ++changes;
    for (ChangedKeys* listener : listeners) {
      if (listener != nullptr) listener->note(item);
    }
  }
  unsigned tallest() const {  ///< levels of the taller tree
    return 1u + std::max(roots[0].level, roots[1].level);
  }
  /// The most nodes that changing `item_changes` items can take, in trees of at most
  /// `tallest` levels.
  static uint64_t nodes_for(unsigned item_changes, unsigned tallest);
  uint64_t nodes_for(unsigned item_changes) const { return nodes_for(item_changes, tallest()); }

  bool is_running(const Node& node) const { return node.birth() == running; }
  /// A new, empty node of the running transaction.
  Node& make_node(alloc::NodeReservation& reservation, TreeId tree, uint8_t level);
  /// The same node, born in the running transaction: itself or a copy at a new address. The caller
  /// updates the pointer to it.
  Node& make_writable(alloc::NodeReservation& reservation, Node& node);
  /// Removes the node from its tree.
  void drop(Node& node);
  NodePointer pointer_to(const Node& node) const { return {node.address(), node.birth(), 0}; }

  using ClosedNodes = std::map<LogicalOffset, std::shared_ptr<Node>>;
  /// Computes the checksums of the running transaction's nodes, children first.
  void seal_nodes();
  /// Opens the next transaction; returns the nodes of the closed one, which never change again.
  ClosedNodes open_next();

 private:
  uint64_t seal(Node& node);
};

}  // namespace moltfs::fs
