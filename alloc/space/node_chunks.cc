// SPDX-License-Identifier: MIT
// Allocating and freeing tree nodes.
#include "alloc/space/node_chunks.h"

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::alloc {

NodeChunks::Entry::Entry(std::shared_ptr<const Chunk> c)
    : chunk(std::move(c)), slots(chunk->length / kNodeSize) {
  slots.clear_all();
}

uint64_t NodeChunks::Entry::birth_of(uint64_t slot) const {
  const auto some = births.find(slot / kBirthsTogether);
  return some == births.end() ? 0 : some->second[slot % kBirthsTogether];
}

void NodeChunks::Entry::set_birth(uint64_t slot, uint64_t birth) {
  births[slot / kBirthsTogether][slot % kBirthsTogether] = birth;  // a new array is zero
}

template <class Change>
auto NodeChunks::counted(Entry& entry, Change change) {
  free_ -= entry.slots.free();
  usable_ -= entry.slots.usable();
  auto result = change(entry.slots);
  free_ += entry.slots.free();
  usable_ += entry.slots.usable();
  return result;
}

void NodeChunks::add(std::shared_ptr<const Chunk> chunk) {
  const LogicalOffset start = chunk->start;
  auto [at, added] = chunks_.try_emplace(start, std::move(chunk));
  ASSERT(added);
  size_ += at->second.slots.size();
  free_ += at->second.slots.free();
  usable_ += at->second.slots.usable();
}

void NodeChunks::remove(LogicalOffset chunk) {
  auto at = chunks_.find(chunk);
  ASSERT(at != chunks_.end());
  const BlockMap& slots = at->second.slots;
  ASSERT(slots.free() == slots.size());
  size_ -= slots.size();
  free_ -= slots.free();
  usable_ -= slots.usable();
  chunks_.erase(at);
}

/// The chunk that has a slot at `address`, or null.
NodeChunks::Entry* NodeChunks::find(LogicalOffset address) {
  auto after = chunks_.upper_bound(address);
  if (after == chunks_.begin()) return nullptr;
  Entry& entry = std::prev(after)->second;
  const uint64_t at = address - entry.chunk->start;
  return at < entry.slots.size() * kNodeSize && at % kNodeSize == 0 ? &entry : nullptr;
}

bool NodeChunks::mark(LogicalOffset address, Generation birth) {
  Entry* entry = find(address);
  if (!entry || birth.value == 0) return false;
  const uint64_t slot = (address - entry->chunk->start) / kNodeSize;
  if (entry->slots.busy(slot)) return false;
  counted(*entry, [&](BlockMap& slots) { return slots.set({slot, 1}); });
  entry->set_birth(slot, birth.value);
  ++entry->allocated;
  ++allocated_;
  return true;
}

NodeChunks::Entry& NodeChunks::roomiest() {
  Entry* best = nullptr;
  for (auto& [start, entry] : chunks_) {
    if (!best || entry.slots.usable() > best->slots.usable()) best = &entry;
  }
  return *best;
}

LogicalOffset NodeChunks::allocate(Generation birth) {
  ASSERT(usable_ > 0 && birth.value > 0);
  auto current = chunks_.find(current_);
  const bool stay = current != chunks_.end() && current->second.slots.usable() > 0;
  Entry& entry = stay ? current->second : roomiest();
  current_ = entry.chunk->start;
  const BlockRun run = counted(entry, [](BlockMap& slots) { return slots.take(1, 1); });
  ASSERT(run.count == 1);
  entry.set_birth(run.first, birth.value);
  ++entry.allocated;
  ++allocated_;
  return entry.chunk->start + run.first * kNodeSize;
}

bool NodeChunks::free(LogicalOffset address, Generation running) {
  Entry* entry = find(address);
  if (!entry) return false;
  const uint64_t slot = (address - entry->chunk->start) / kNodeSize;
  const Generation birth(entry->birth_of(slot));
  if (birth.value == 0) return false;
  entry->set_birth(slot, 0);
  --entry->allocated;
  --allocated_;
  if (birth < running) {
    pins_[running].push_back(address);
  } else {
    counted(*entry, [&](BlockMap& slots) { return slots.clear({slot, 1}); });
  }
  return true;
}

void NodeChunks::release_pins(Generation up_to) {
  while (!pins_.empty() && pins_.begin()->first <= up_to) {
    for (LogicalOffset address : pins_.begin()->second) {
      Entry* entry = find(address);
      ASSERT(entry);
      const uint64_t slot = (address - entry->chunk->start) / kNodeSize;
      counted(*entry, [&](BlockMap& slots) { return slots.clear({slot, 1}); });
    }
    pins_.erase(pins_.begin());
  }
}

std::vector<AllocatedNode> NodeChunks::nodes_in(LogicalRange range) const {
  std::vector<AllocatedNode> nodes;
  auto at = chunks_.upper_bound(range.start);
  if (at != chunks_.begin()) --at;
  for (; at != chunks_.end() && at->first < range.end(); ++at) {
    const Entry& entry = at->second;
    const LogicalOffset start = entry.chunk->start;
    const uint64_t first =
        range.start > start ? (range.start - start + kNodeSize - 1) / kNodeSize : 0;
    auto some = entry.births.lower_bound(first / kBirthsTogether);
    for (; some != entry.births.end(); ++some) {
      const uint64_t base = some->first * kBirthsTogether;
      if (start + base * kNodeSize >= range.end()) break;
      for (uint64_t i = 0; i < kBirthsTogether; ++i) {
        const LogicalOffset address = start + (base + i) * kNodeSize;
        const uint64_t birth = some->second[i];
        if (birth == 0 || base + i < first || address >= range.end()) continue;
        nodes.push_back({address, Generation(birth)});
      }
    }
  }
  return nodes;
}

void NodeChunks::freeze(uint64_t id, LogicalRange range) {
  auto after = chunks_.upper_bound(range.start);
  ASSERT(after != chunks_.begin());
  Entry& entry = std::prev(after)->second;
  const uint64_t first = (range.start - entry.chunk->start) / kNodeSize;
  const uint64_t end = round_up(range.end() - entry.chunk->start, kNodeSize) / kNodeSize;
  counted(entry, [&](BlockMap& slots) {
    slots.freeze(id, {first, std::min(end, slots.size()) - first});
    return true;
  });
}

void NodeChunks::thaw(uint64_t id, LogicalOffset chunk) {
  counted(chunks_.find(chunk)->second, [&](BlockMap& slots) {
    slots.thaw(id);
    return true;
  });
}

std::vector<std::shared_ptr<const Chunk>> NodeChunks::removable() const {
  std::vector<std::shared_ptr<const Chunk>> chunks;
  for (const auto& [start, entry] : chunks_) {
    if (entry.slots.free() == entry.slots.size() && !entry.slots.any_frozen()) {
      chunks.push_back(entry.chunk);
    }
  }
  return chunks;
}

uint64_t NodeChunks::allocated_in(LogicalOffset chunk) const {
  auto at = chunks_.find(chunk);
  return at == chunks_.end() ? 0 : at->second.allocated;
}

}  // namespace moltfs::alloc
