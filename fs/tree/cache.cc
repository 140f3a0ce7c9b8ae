// SPDX-License-Identifier: MIT
// The nodes in memory: lookup, second-chance eviction.
#include "fs/tree/cache.h"

#include "alloc/base/assert.h"

namespace moltfs::fs {

const std::shared_ptr<Node>* NodeCache::find(const NodePointer& pointer) {
  const auto it = nodes_.find(pointer.address);
  if (it == nodes_.end() || it->second->birth() != pointer.birth) return nullptr;
  it->second->recently_used = true;
  return &it->second;
}

void NodeCache::add_clean(std::shared_ptr<Node> node) {
  auto& place = nodes_[node->address()];
  if (place) {
    if (place->dirty || place->birth() >= node->birth()) return;
    ring_.erase(ring_.iterator_to(*place));
  }
  node->dirty = false;
  node->recently_used = true;
  ring_.push_back(*node);
  place = std::move(node);
}

void NodeCache::add_dirty(std::shared_ptr<Node> node) {
  auto& place = nodes_[node->address()];
  if (place && place->ring.is_linked()) ring_.erase(ring_.iterator_to(*place));
  node->dirty = true;
  place = std::move(node);
}

void NodeCache::mark_clean(Node& node) {
  ASSERT(node.dirty);
  node.dirty = false;
  const auto it = nodes_.find(node.address());
  if (it != nodes_.end() && it->second.get() == &node) ring_.push_back(node);
}

void NodeCache::remove(const Node& node) {
  const auto it = nodes_.find(node.address());
  if (it == nodes_.end() || it->second.get() != &node) return;
  if (node.ring.is_linked()) ring_.erase(ring_.iterator_to(node));
  nodes_.erase(it);
}

void NodeCache::evict() {
  // Twice round: the first pass may only clear recently_used.
  for (size_t steps = 2 * ring_.size(); bytes() > limit_bytes_ && steps > 0; --steps) {
    Node& node = ring_.front();
    const auto it = nodes_.find(node.address());
    ASSERT(it != nodes_.end() && it->second.get() == &node);
    ring_.pop_front();
    if (node.recently_used || it->second.use_count() > 1) {
      node.recently_used = false;
      ring_.push_back(node);
    } else {
      nodes_.erase(it);
    }
  }
}

}  // namespace moltfs::fs
