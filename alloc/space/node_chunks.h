// SPDX-License-Identifier: MIT
// The metadata chunks, and the nodes in each. Used by Space only: no lock, no waiting, no I/O.
//
// Each slot of 16 KiB is busy or free. A slot has a birth generation if the running trees have a
// node there. A busy slot without a birth is pinned. Births take memory only where there are nodes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "alloc/disk/chunk.h"
#include "alloc/space/block_map.h"
#include "alloc/space/space_types.h"

namespace moltfs::alloc {

class NodeChunks {
 public:
  void add(std::shared_ptr<const Chunk> chunk);
  void remove(LogicalOffset chunk);

  /// False if `address` is not a free slot, or if `birth` is 0.
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

  /// Chunks in which no node is allocated, pinned or frozen.
  std::vector<std::shared_ptr<const Chunk>> removable() const;

  // Numbers of nodes:
  uint64_t size() const { return size_; }
  uint64_t free() const { return free_; }
  /// Free and not frozen.
  uint64_t usable() const { return usable_; }
  uint64_t allocated() const { return allocated_; }
  uint64_t pinned() const { return size_ - free_ - allocated_; }
  uint64_t allocated_in(LogicalOffset chunk) const;

 private:
  static constexpr uint64_t kBirthsTogether = 64;
  using Births = std::array<uint64_t, kBirthsTogether>;
  struct Entry {
    explicit Entry(std::shared_ptr<const Chunk> c);
    uint64_t birth_of(uint64_t slot) const;
    void set_birth(uint64_t slot, uint64_t birth);

    std::shared_ptr<const Chunk> chunk;
    BlockMap slots;
    /// Of slots [64 i, 64 i + 64) at i; not there: all 0. Memory only where there are nodes: a
    /// chunk may be much longer than what it holds.
    std::map<uint64_t, Births> births;
    uint64_t allocated = 0;
  };
  /// Runs `change` on `entry.slots` and corrects the sums.
  template <class Change>
  auto counted(Entry& entry, Change change);
  Entry* find(LogicalOffset address);
  Entry& roomiest();

  std::map<LogicalOffset, Entry> chunks_;
  std::map<Generation, std::vector<LogicalOffset>> pins_;
  LogicalOffset current_;  // the chunk of the last allocation
  uint64_t size_ = 0, free_ = 0, usable_ = 0, allocated_ = 0;
};

}  // namespace moltfs::alloc
