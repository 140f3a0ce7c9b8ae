// SPDX-License-Identifier: MIT
// The nodes in memory, by address, bounded in bytes. Clean nodes to which no operation holds a
// pointer are evicted, least recently used first (second chance).
//
// Dirty nodes are in the map but not in the ring of candidates; mark_clean() adds them to the ring.
// Operations hold pointers to the nodes that were read for them. evict() is called only between
// critical sections, so no node disappears within one.
//
// Guarded by the lock of the transactions.
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <memory>

#include "fs/tree/node.h"

namespace moltfs::fs {

class NodeCache {
 public:
  explicit NodeCache(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ~NodeCache() { ring_.clear(); }

  /// The node that `pointer` points to, if it is in memory. The birth must match, too, because an
  /// address may have been reused. Valid until the next change of the cache.
  const std::shared_ptr<Node>* find(const NodePointer& pointer);
  /// Adds a node that was read, unless a dirty or younger node has its address: then the node that
  /// was read is outdated. A node of the same birth stays.
  void add_clean(std::shared_ptr<Node> node);
  /// Adds a new node, replacing any other node at its address.
  void add_dirty(std::shared_ptr<Node> node);
  void mark_clean(Node& node);
  /// Removes `node` itself; another node at its address stays.
  void remove(const Node& node);
  void evict();
  /// The next evict() obeys it.
  void set_limit(uint64_t bytes) { limit_bytes_ = bytes; }

  uint64_t bytes() const { return nodes_.size() * kNodeSize; }

 private:
  using Ring = boost::intrusive::list<
      Node, boost::intrusive::member_hook<Node, boost::intrusive::list_member_hook<>, &Node::ring>>;

  uint64_t limit_bytes_;
  boost::unordered_flat_map<LogicalOffset, std::shared_ptr<Node>, std::hash<LogicalOffset>> nodes_;
  Ring ring_;  // clean nodes; the next candidate for eviction is at the front
};

}  // namespace moltfs::fs
