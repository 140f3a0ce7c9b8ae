// SPDX-License-Identifier: MIT
// Reading trees without transactions.
#include "fs/check/tree_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace moltfs::fs {
namespace {

constexpr size_t kBatch = 32;  // nodes read at once

Error unusable(const NodeReading& reading) {
  const NodeExpectation& e = reading.expected;
  return Error(
      Errc::bad_node,
      fmt::format("node {} of the {} (level {}) cannot be used: {}", e.pointer.address.value,
                  name_of(e.tree), e.level,
                  reading.bad.empty() ? "there is no chunk" : reading.bad.front().error.message()));
}

NodeExpectation at_root(TreeId tree, const TreeRoot& root) {
  return {tree, root.level, root.node, Key::min(), Key::max()};
}

}  // namespace

std::string describe(const CopyPlace& place) {
  return fmt::format("devid {}, offset {}", place.device.value, place.offset);
}

std::string describe(const CopyPlace& place, const alloc::Volume& volume) {
  const auto device = volume.device(place.device);
  return device ? describe(place) + " of " + device->path() : describe(place);
}

std::optional<CopyPlace> place_of(const alloc::Map& map, LogicalOffset at, unsigned copy) {
  const auto segments = map.for_read({at, kBlockSize}, copy);
  if (!segments || segments.value().empty()) return std::nullopt;
  const alloc::Segment& segment = segments.value().front();
  return CopyPlace{segment.devid, segment.offset.value};
}

NodesSeen::Answer NodesSeen::see(const alloc::Map& map, LogicalOffset address) {
  if (address.value > alloc::kMaxLogical) return Answer::no_place;
  const alloc::Chunk* chunk = map.chunk_of({address, kNodeSize});
  if (chunk == nullptr || chunk->kind != alloc::ChunkKind::metadata ||
      (address - chunk->start) % kNodeSize != 0) {
    return Answer::no_place;
  }
  auto& slots = slots_[chunk->start];
  if (slots.empty()) slots.resize(chunk->length / kNodeSize);
  auto slot = slots[(address - chunk->start) / kNodeSize];
  if (slot) return Answer::seen_before;
  slot = true;
  return Answer::first_time;
}

TreeReader::TreeReader(alloc::Volume& volume, uint64_t cache_bytes, Nodes replayed)
    : volume_(volume),
      uuid_(volume.superblock().volume),
      map_(volume.mapper().current()),
      replayed_(std::move(replayed)),
      cache_nodes_(std::max<size_t>(cache_bytes / kNodeSize, 2 * kMaxTreeHeight)) {}

void TreeReader::read(std::span<NodeReading> readings) const {
  const alloc::MapGuard guard = volume_.acquire_map();
  std::vector<unsigned> copies;
  for (NodeReading& reading : readings) {
    const NodePointer& pointer = reading.expected.pointer;
    const auto replayed = replayed_.find(pointer.address);
    if (replayed != replayed_.end() && replayed->second->birth() == pointer.birth) {
      reading.node = replayed->second;
    }
    copies.push_back(reading.node ? 0 : volume_.copies_at(guard, pointer.address));
  }
  const unsigned most = copies.empty() ? 0 : *std::max_element(copies.begin(), copies.end());
  for (unsigned copy = 0; copy < most; ++copy) {
    std::vector<AlignedBuffer> buffers;
    std::vector<alloc::LogicalRead> reads;
    std::vector<NodeReading*> whose;
    for (size_t i = 0; i < readings.size(); ++i) {
      const LogicalOffset address = readings[i].expected.pointer.address;
      if (copy >= copies[i] || !guard.map().has_copy(address, copy)) continue;
      buffers.emplace_back(kNodeSize);
      reads.push_back({address, buffers.back().span()});
      whose.push_back(&readings[i]);
    }
    volume_.read_batch(guard, reads, copy);
    for (size_t i = 0; i < reads.size(); ++i) {
      NodeReading& reading = *whose[i];
      auto result = reads[i].result;
      if (result) result = validate_node(buffers[i].span(), reading.expected, &uuid_);
      if (!result) {
        const auto place = place_of(guard.map(), reads[i].at, copy);
        reading.bad.push_back({copy, place.value_or(CopyPlace{}), result.error()});
      } else if (!reading.node) {
        reading.node = std::make_shared<const Node>(std::move(buffers[i]));
      }
    }
  }
}

void TreeReader::walk(TreeId tree, const TreeRoot& root, NodesSeen& seen, const Walk& walk) const {
  walk_nodes({at_root(tree, root)}, seen, walk);
}

void TreeReader::walk_nodes(std::vector<NodeExpectation> siblings, NodesSeen& seen,
                            const Walk& walk) const {
  for (size_t first = 0; first < siblings.size(); first += kBatch) {
    std::vector<NodeReading> readings;
    for (size_t i = first; i < std::min(siblings.size(), first + kBatch); ++i) {
      const auto answer = seen.see(*map_, siblings[i].pointer.address);
      if (answer == NodesSeen::Answer::first_time) {
        readings.push_back({siblings[i], nullptr, {}});
      } else if (walk.bad_pointer) {
        walk.bad_pointer(siblings[i], answer);
      }
    }
    read(readings);
    for (NodeReading& reading : readings) {
      if (walk.node) walk.node(reading);
      if (!reading.node) continue;
      if (!reading.node->is_leaf()) {
        const bool at_leaves = reading.expected.level == 1;
        if (walk.inner_only && at_leaves) continue;
        walk_nodes(children_of(*reading.node, reading.expected), seen, walk);
      } else if (walk.item) {
        for (unsigned i = 0; i < reading.node->count(); ++i) {
          walk.item({reading.node->key(i), reading.node->value(i)});
        }
      }
      reading.node.reset();
    }
  }
}

Result<std::shared_ptr<const Node>> TreeReader::load(const NodeExpectation& expected) {
  const auto found = cache_.find(expected.pointer.address);
  if (found != cache_.end() && found->second->level() == expected.level &&
      found->second->tree() == expected.tree) {
    return found->second;
  }
  NodeReading reading{expected, nullptr, {}};
  read({&reading, 1});
  if (!reading.node) return unusable(reading);
  if (cache_.size() >= cache_nodes_) cache_.clear();
  cache_[expected.pointer.address] = reading.node;
  return reading.node;
}

Result<bool> TreeReader::scan_node(const NodeExpectation& expected, const Key& first,
                                   const Key& last, const std::function<bool(const Item&)>& visit) {
  TRY(const auto node, load(expected));
  if (node->is_leaf()) {
    for (unsigned i = node->lower_bound(first); i < node->count(); ++i) {
      if (node->key(i) > last || !visit({node->key(i), node->value(i)})) return false;
    }
    return true;
  }
  const auto children = children_of(*node, expected);
  for (unsigned i = node->child_slot(first); i < children.size(); ++i) {
    if (i > 0 && node->key(i) > last) return false;
    TRY(const bool more, scan_node(children[i], first, last, visit));
    if (!more) return false;
  }
  return true;
}

Result<void> TreeReader::scan(TreeId tree, const TreeRoot& root, const Key& first, const Key& last,
                              const std::function<bool(const Item&)>& visit) {
  TRY(scan_node(at_root(tree, root), first, last, visit));
  return ok();
}

Result<std::optional<std::vector<std::byte>>> TreeReader::find(TreeId tree, const TreeRoot& root,
                                                               const Key& key) {
  std::optional<std::vector<std::byte>> found;
  TRY(scan(tree, root, key, key, [&](const Item& item) {
    found.emplace(item.value.begin(), item.value.end());
    return false;
  }));
  return found;
}

}  // namespace moltfs::fs
