// SPDX-License-Identifier: MIT
// The data chunks and what is free in each. Space's own: no lock, no waiting, no I/O.
//
// A chunk's bitmap is loaded on first use. Meanwhile the trees live on:
//   unloaded   nothing is handed out. Frees change the counts; pinned ranges are remembered.
//   loading    the same, and every free is noted: the listing under way may or may not still show
//              it. Busy is then what was listed, less what was freed since the load began, plus
//              what is pinned. This is right whatever moment each part of the listing shows,
//              for nothing is handed out before the load is done, and the extent tree loses a
//              record and free() is called in one critical section.
//   loaded     the bitmap has it all.
//   failed     the listing could not be read; tried again after the next seal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/disk/chunk.h"
#include "alloc/space/block_map.h"
#include "alloc/space/space.h"

namespace moltfs::alloc {

class DataChunks {
 public:
  /// `known_empty`: newly made, needs no loading.
  void add(std::shared_ptr<const Chunk> chunk, bool known_empty);
  void remove(LogicalOffset chunk);
  void set_used(LogicalOffset chunk, uint64_t bytes);

  /// A range of `wanted` bytes or less, but of `at_least`, out of the loaded chunks.
  std::optional<LogicalRange> take(uint64_t wanted, uint64_t at_least);
  void record(LogicalRange range);
  void cancel(LogicalRange range);
  /// False if that cannot be: not in a data chunk, or free already.
  bool free(LogicalRange range, Generation birth, Generation running);
  /// What is freed in `running` or earlier is pinned, whatever its birth.
  void pin_freed_in(Generation running) { kept_ = std::max(kept_, running); }
  void release_pins(Generation up_to);

  /// Starts loading the unloaded chunk with most free space, if it has `min_free` bytes or more
  /// and, with `worthwhile`, at least 1/64 of its length.
  std::shared_ptr<const Chunk> begin_load(uint64_t min_free, bool worthwhile);
  void finish_load(const Chunk& chunk, const Result<std::vector<LogicalRange>>& listed);
  unsigned loading() const { return loading_; }

  bool contains(LogicalOffset chunk) const { return chunks_.count(chunk) > 0; }
  void freeze(uint64_t id, LogicalRange within_one_chunk);
  void thaw(uint64_t id, LogicalOffset chunk);
  /// What is free and not frozen of a range within one chunk; nothing of one that is not loaded.
  std::vector<LogicalRange> usable_in(LogicalRange within_one_chunk) const;
  /// Is there free space that is merely frozen?
  bool frozen_could_serve() const;

  std::vector<Space::UsageChange> usage_changes() const;
  void usage_is_recorded(const std::vector<Space::UsageChange>& changes);
  /// Bitmaps that could not be loaded may be tried again.
  void seal();
  /// Chunks with nothing allocated, pinned, in flight, loading or frozen.
  std::vector<std::shared_ptr<const Chunk>> removable() const;

  uint64_t chunk_bytes() const { return chunk_bytes_; }
  uint64_t recorded_bytes() const { return recorded_; }
  uint64_t in_flight_bytes() const { return in_flight_; }
  uint64_t pinned_bytes() const { return pinned_; }
  uint64_t free_bytes() const { return chunk_bytes_ - recorded_ - in_flight_ - pinned_; }
  uint64_t used_bytes(LogicalOffset chunk) const;

 private:
  enum class State : uint8_t { unloaded, loading, loaded, failed };
  /// (blocks, ~start): the highest comes first, the lowest address among equals.
  using Key = std::pair<uint64_t, uint64_t>;
  using Index = std::set<Key>;
  struct Entry {
    explicit Entry(std::shared_ptr<const Chunk> c)
        : chunk(std::move(c)), blocks(chunk->length / kBlockSize) {}
    BlockRun run_of(LogicalRange range) const {
      return {(range.start - chunk->start) / kBlockSize, range.length / kBlockSize};
    }
    /// The part of `range` in this chunk.
    LogicalRange clip(LogicalRange range) const;

    std::shared_ptr<const Chunk> chunk;
    BlockMap blocks;
    State state = State::unloaded;
    uint64_t recorded = 0;   // bytes that records of the running trees name
    uint64_t in_flight = 0;  // bytes handed out and not yet recorded
    uint64_t pinned = 0;
    uint64_t in_usage_record = 0;
    std::vector<LogicalRange> freed_while_loading;
    Index* index = nullptr;  // where it stands now, under `key`
    Key key;
  };

  Entry* find(LogicalRange range);
  std::optional<LogicalRange> take_from(Entry& entry, uint64_t wanted, uint64_t at_least);
  void update(Entry& entry);

  std::map<LogicalOffset, Entry> chunks_;
  Index by_longest_run_;             // loaded chunks with free blocks
  Index by_free_;                    // unloaded ones
  std::set<LogicalOffset> changed_;  // used bytes differ from the usage record
  std::set<LogicalOffset> empty_;
  std::map<Generation, std::vector<LogicalRange>> pins_;
  LogicalOffset current_;
  Generation kept_;
  unsigned loading_ = 0;
  bool any_failed_ = false;
  uint64_t chunk_bytes_ = 0, recorded_ = 0, in_flight_ = 0, pinned_ = 0;
};

}  // namespace moltfs::alloc
