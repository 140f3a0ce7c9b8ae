// SPDX-License-Identifier: MIT
// Allocating and freeing data blocks; loading the bitmaps of chunks.
#include "alloc/space/data_chunks.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"

namespace moltfs::alloc {

LogicalRange DataChunks::Entry::clip(LogicalRange range) const {
  const LogicalOffset first = std::max(range.start, chunk->start);
  const LogicalOffset last = std::min(range.end(), chunk->range().end());
  return first < last ? LogicalRange{first, last - first} : LogicalRange{chunk->start, 0};
}

void DataChunks::add(std::shared_ptr<const Chunk> chunk, bool known_empty) {
  const LogicalOffset start = chunk->start;
  chunk_bytes_ += chunk->length;
  auto [at, added] = chunks_.try_emplace(start, std::move(chunk));
  ASSERT(added);
  if (known_empty) {
    at->second.state = State::loaded;
    at->second.blocks.clear_all();
  }
  update(at->second);
}

void DataChunks::remove(LogicalOffset chunk) {
  auto at = chunks_.find(chunk);
  ASSERT(at != chunks_.end());
  Entry& entry = at->second;
  ASSERT(entry.recorded + entry.in_flight + entry.pinned == 0);
  if (entry.index) entry.index->erase(entry.key);
  empty_.erase(chunk);
  changed_.erase(chunk);
  chunk_bytes_ -= entry.chunk->length;
  chunks_.erase(at);
}

void DataChunks::set_used(LogicalOffset chunk, uint64_t bytes) {
  auto at = chunks_.find(chunk);
  if (at == chunks_.end() || at->second.state != State::unloaded) return;
  Entry& entry = at->second;
  const uint64_t used = std::min(bytes, entry.chunk->length);
  recorded_ += used - entry.recorded;
  entry.recorded = entry.in_usage_record = used;
  update(entry);
}

/// The chunk that holds all of `range`. Null if there is none, or if `range` is not whole blocks.
DataChunks::Entry* DataChunks::find(LogicalRange range) {
  auto after = chunks_.upper_bound(range.start);
  if (after == chunks_.begin()) return nullptr;
  Entry& entry = std::prev(after)->second;
  const uint64_t at = range.start - entry.chunk->start;
  if (range.length == 0 || at % kBlockSize != 0 || range.length % kBlockSize != 0) return nullptr;
  if (at >= entry.chunk->length || range.length > entry.chunk->length - at) return nullptr;
  return &entry;
}

/// Brings the indexes up to date. Call this after any change of `entry`.
void DataChunks::update(Entry& entry) {
  const LogicalOffset start = entry.chunk->start;
  Index* index = nullptr;
  uint64_t blocks = 0;
  if (entry.state == State::loaded) {
    index = &by_longest_run_;
    blocks = std::min(entry.blocks.longest_bound(), entry.blocks.free());
  } else if (entry.state == State::unloaded) {
    index = &by_free_;
    const uint64_t taken = entry.recorded + entry.pinned;
    blocks = (entry.chunk->length - std::min(entry.chunk->length, taken)) / kBlockSize;
  }
  if (blocks == 0) index = nullptr;
  const Key key{blocks, ~start.value};
  if (index != entry.index || (index && key != entry.key)) {
    if (entry.index) entry.index->erase(entry.key);
    if (index) index->insert(key);
    entry.index = index;
    entry.key = key;
  }
  if (entry.recorded + entry.in_flight + entry.pinned == 0) {
    empty_.insert(start);
  } else {
    empty_.erase(start);
  }
  if (entry.recorded != entry.in_usage_record) {
    changed_.insert(start);
  } else {
    changed_.erase(start);
  }
}

std::optional<LogicalRange> DataChunks::take_from(Entry& entry, uint64_t wanted,
                                                  uint64_t at_least) {
  if (entry.state != State::loaded) return std::nullopt;
  const BlockRun run = entry.blocks.take(wanted / kBlockSize, at_least / kBlockSize);
  const uint64_t bytes = run.count * kBlockSize;
  entry.in_flight += bytes;
  in_flight_ += bytes;
  update(entry);
  if (bytes == 0) return std::nullopt;
  current_ = entry.chunk->start;
  return LogicalRange{entry.chunk->start + run.first * kBlockSize, bytes};
}

std::optional<LogicalRange> DataChunks::take(uint64_t wanted, uint64_t at_least) {
  // First the chunk of the last allocation, so that data written together lie together.
  auto current = chunks_.find(current_);
  if (current != chunks_.end()) {
    if (auto range = take_from(current->second, wanted, at_least)) return range;
  }
  // A search that finds nothing moves the chunk down in the index (its bound was too high) or
  // leaves it where it is (the run is frozen).
  for (auto at = by_longest_run_.end(); at != by_longest_run_.begin();) {
    const Key key = *std::prev(at);
    if (key.first * kBlockSize < at_least) break;
    Entry& entry = chunks_.find(LogicalOffset(~key.second))->second;
    if (auto range = take_from(entry, wanted, at_least)) return range;
    at = by_longest_run_.lower_bound(key);
  }
  return std::nullopt;
}

void DataChunks::record(LogicalRange range) {
  Entry* entry = find(range);
  ASSERT(entry && entry->in_flight >= range.length);
  entry->in_flight -= range.length;
  in_flight_ -= range.length;
  entry->recorded += range.length;
  recorded_ += range.length;
  update(*entry);
}

void DataChunks::cancel(LogicalRange range) {
  Entry* entry = find(range);
  ASSERT(entry && entry->in_flight >= range.length);
  entry->in_flight -= range.length;
  in_flight_ -= range.length;
  const uint64_t cleared = entry->blocks.clear(entry->run_of(range));
  ASSERT(cleared * kBlockSize == range.length);
  update(*entry);
}

bool DataChunks::free(LogicalRange range, Generation birth, Generation running) {
  Entry* entry = find(range);
  if (!entry) return false;
  const bool loaded = entry->state == State::loaded;
  if (loaded && entry->blocks.count_free(entry->run_of(range)) > 0) return false;
  const uint64_t counted = std::min(range.length, entry->recorded);
  // Records of a damaged tree may overlap, so that more is freed than a chunk has.
  const uint64_t others = entry->recorded - counted + entry->in_flight + entry->pinned;
  if (others + range.length > entry->chunk->length) return false;
  entry->recorded -= counted;
  recorded_ -= counted;
  if (entry->state == State::loading) entry->freed_while_loading.push_back(range);
  if (birth < running || running <= pin_freed_in_) {
    pins_[running].push_back(range);
    entry->pinned += range.length;
    pinned_ += range.length;
  } else if (loaded) {
    entry->blocks.clear(entry->run_of(range));
  }
  update(*entry);
  return true;
}

void DataChunks::release_pins(Generation up_to) {
  while (!pins_.empty() && pins_.begin()->first <= up_to) {
    for (LogicalRange range : pins_.begin()->second) {
      Entry* entry = find(range);
      ASSERT(entry && entry->pinned >= range.length);
      entry->pinned -= range.length;
      pinned_ -= range.length;
      if (entry->state == State::loaded) entry->blocks.clear(entry->run_of(range));
      update(*entry);
    }
    pins_.erase(pins_.begin());
  }
}

std::shared_ptr<const Chunk> DataChunks::begin_load(uint64_t min_free, bool worthwhile) {
  if (by_free_.empty()) return nullptr;
  const Key key = *by_free_.rbegin();
  Entry& entry = chunks_.find(LogicalOffset(~key.second))->second;
  const uint64_t free = key.first * kBlockSize;
  if (free < min_free || (worthwhile && free < entry.chunk->length / 64)) return nullptr;
  entry.state = State::loading;
  ++loading_;
  update(entry);
  return entry.chunk;
}

void DataChunks::finish_load(const Chunk& chunk, const Result<std::vector<LogicalRange>>& listed) {
  Entry& entry = chunks_.find(chunk.start)->second;
  ASSERT(entry.state == State::loading);
  --loading_;
  const std::vector<LogicalRange> freed = std::move(entry.freed_while_loading);
  entry.freed_while_loading.clear();
  if (!listed) {
    entry.state = State::failed;
    any_failed_ = true;
    update(entry);
    return;
  }
  entry.blocks.clear_all();
  for (LogicalRange range : listed.assume_value())
    entry.blocks.set(entry.run_of(entry.clip(range)));
  for (LogicalRange range : freed) entry.blocks.clear(entry.run_of(range));

  const uint64_t used = (entry.blocks.size() - entry.blocks.free()) * kBlockSize;
  if (used != entry.recorded) {
    log_warning("data chunk at {:#x}: its usage record says {} bytes, its extents are {} bytes",
                chunk.start.value, entry.recorded, used);
    recorded_ += used - entry.recorded;
    entry.recorded = used;
  }
  for (const auto& [generation, ranges] : pins_) {
    for (LogicalRange range : ranges) entry.blocks.set(entry.run_of(entry.clip(range)));
  }
  entry.state = State::loaded;
  update(entry);
}

void DataChunks::freeze(uint64_t id, LogicalRange range) {
  auto after = chunks_.upper_bound(range.start);
  ASSERT(after != chunks_.begin());
  Entry& entry = std::prev(after)->second;
  const uint64_t first = (range.start - entry.chunk->start) / kBlockSize;
  const uint64_t end = round_up(range.end() - entry.chunk->start, kBlockSize) / kBlockSize;
  entry.blocks.freeze(id, {first, end - first});
}

void DataChunks::thaw(uint64_t id, LogicalOffset chunk) {
  chunks_.find(chunk)->second.blocks.thaw(id);
}

std::vector<LogicalRange> DataChunks::usable_in(LogicalRange range) const {
  auto after = chunks_.upper_bound(range.start);
  ASSERT(after != chunks_.begin());
  const Entry& entry = std::prev(after)->second;
  std::vector<LogicalRange> usable;
  if (entry.state != State::loaded) return usable;
  for (const BlockRun& run : entry.blocks.usable_in(entry.run_of(range))) {
    usable.push_back({entry.chunk->start + run.first * kBlockSize, run.count * kBlockSize});
  }
  return usable;
}

bool DataChunks::frozen_could_serve() const {
  return !by_longest_run_.empty();
}

std::vector<UsageChange> DataChunks::usage_changes() const {
  std::vector<UsageChange> changes;
  for (LogicalOffset start : changed_) changes.push_back({start, chunks_.at(start).recorded});
  return changes;
}

void DataChunks::usage_is_recorded(const std::vector<UsageChange>& changes) {
  for (const auto& [start, bytes] : changes) {
    Entry& entry = chunks_.find(start)->second;
    entry.in_usage_record = bytes;
    update(entry);
  }
}

void DataChunks::retry_failed_loads() {
  if (!any_failed_) return;
  any_failed_ = false;
  for (auto& [start, entry] : chunks_) {
    if (entry.state != State::failed) continue;
    entry.state = State::unloaded;
    update(entry);
  }
}

std::vector<std::shared_ptr<const Chunk>> DataChunks::removable() const {
  std::vector<std::shared_ptr<const Chunk>> chunks;
  for (LogicalOffset start : empty_) {
    const Entry& entry = chunks_.at(start);
    if (entry.state == State::loading || entry.blocks.any_frozen()) continue;
    chunks.push_back(entry.chunk);
  }
  return chunks;
}

uint64_t DataChunks::used_bytes(LogicalOffset chunk) const {
  auto at = chunks_.find(chunk);
  return at == chunks_.end() ? 0 : at->second.recorded + at->second.in_flight;
}

}  // namespace moltfs::alloc
