// SPDX-License-Identifier: MIT
// The nodes in memory, by address, bounded in bytes: clean ones that nobody holds are evicted,
// those not used lately first (second chance).
//
// Dirty nodes are in the map but not in the ring of candidates; mark_clean() puts them there. A
// node that somebody else holds a pointer to is passed over: operations hold what was read for
// them. evict() is called only between critical sections, so within one nothing disappears.
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

  /// The node that `pointer` points to, if it is in memory. An address may have been used again:
  /// the birth must match, too. Valid until nodes come or go.
  const std::shared_ptr<Node>* find(const NodePointer& pointer);
  /// Takes in a node that was read, unless a dirty or a younger one has its address: then what was
  /// read is no longer true. A node of the same birth stays.
  void add_clean(std::shared_ptr<Node> node);
  /// Takes in a new node, in place of whatever had its address.
  void add_dirty(std::shared_ptr<Node> node);
  void mark_clean(Node& node);
  /// Takes out `node` itself; another node at its address stays.
  void remove(const Node& node);
  void evict();

  uint64_t bytes() const { return nodes_.size() * kNodeSize; }

 private:
  using Ring = boost::intrusive::list<
      Node, boost::intrusive::member_hook<Node, boost::intrusive::list_member_hook<>, &Node::ring>>;

  const uint64_t limit_bytes_;
  boost::unordered_flat_map<LogicalOffset, std::shared_ptr<Node>, std::hash<LogicalOffset>> nodes_;
  Ring ring_;  // clean nodes; the next candidate for eviction is in front
};

}  // namespace moltfs::fs
