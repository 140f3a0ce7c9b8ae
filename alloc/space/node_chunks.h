// SPDX-License-Identifier: MIT
// The metadata chunks and the nodes in each. Space's own: no lock, no waiting, no I/O.
//
// For every slot of 16 KiB: busy or free, and the birth generation of the node that the running
// trees have there. A busy slot without a birth is pinned. Births cost memory only where nodes are.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "alloc/disk/chunk.h"
#include "alloc/space/block_map.h"
#include "alloc/space/space.h"

namespace moltfs::alloc {

class NodeChunks {
 public:
  void add(std::shared_ptr<const Chunk> chunk);
  void remove(LogicalOffset chunk);

  /// False if `address` is no slot, is taken, or the birth is none.
  bool mark(LogicalOffset address, Generation birth);
  /// REQUIRES: usable() > 0.
  LogicalOffset allocate(Generation birth);
  /// False if the running trees have no node there.
  bool free(LogicalOffset address, Generation running);
  void release_pins(Generation up_to);
  std::vector<AllocatedNode> nodes_in(LogicalRange range) const;

  bool contains(LogicalOffset chunk) const { return chunks_.count(chunk) > 0; }
  void freeze(uint64_t id, LogicalRange within_one_chunk);
  void thaw(uint64_t id, LogicalOffset chunk);

  /// Chunks without any allocated, pinned or frozen node.
  std::vector<std::shared_ptr<const Chunk>> removable() const;

  // Counted in nodes.
  uint64_t size() const { return size_; }
  uint64_t free() const { return free_; }
  /// Free and not frozen.
  uint64_t usable() const { return usable_; }
  uint64_t allocated() const { return allocated_; }
  uint64_t pinned() const { return size_ - free_ - allocated_; }
  uint64_t allocated_in(LogicalOffset chunk) const;

 private:
  using Births = std::array<uint64_t, BlockMap::kPageBlocks>;
  struct Entry {
    explicit Entry(std::shared_ptr<const Chunk> c);
    uint64_t birth_of(uint64_t slot) const;
    void set_birth(uint64_t slot, uint64_t birth);

    std::shared_ptr<const Chunk> chunk;
    BlockMap slots;
    std::vector<std::unique_ptr<Births>> births;  // null: all 0
    uint64_t allocated = 0;
  };
  /// Adjusts the sums for what `change` does to `entry.slots`.
  template <class Change>
  auto counted(Entry& entry, Change change);
  Entry* find(LogicalOffset address);
  Entry& roomiest();

  std::map<LogicalOffset, Entry> chunks_;
  std::map<Generation, std::vector<LogicalOffset>> pins_;
  LogicalOffset current_;
  uint64_t size_ = 0, free_ = 0, usable_ = 0, allocated_ = 0;
};

}  // namespace moltfs::alloc
