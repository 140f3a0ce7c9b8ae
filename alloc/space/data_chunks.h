// SPDX-License-Identifier: MIT
// The data chunks, and what is free in each. Used by Space only: no lock, no waiting, no I/O.
//
// A chunk's bitmap is loaded on first use. The trees may change before and during the load:
//   unloaded   Nothing is handed out. Frees change the counts; pinned ranges are remembered.
//   loading    The same. Every free is noted, too, because the listing may still show the range or
//              not. When the load ends, busy = what was listed, without what was freed since the
//              load began, plus what is pinned. This is right whatever moment each part of the
//              listing is from: nothing is handed out before the load ends, and the record leaves
//              the extent tree and free() is called in the same critical section.
//   loaded     The bitmap is complete.
//   failed     The listing could not be read. The next seal allows another attempt.
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
#include "alloc/space/space_types.h"

namespace moltfs::alloc {

class DataChunks {
 public:
  /// `known_empty`: the chunk is new, there is nothing to load.
  void add(std::shared_ptr<const Chunk> chunk, bool known_empty);
  void remove(LogicalOffset chunk);
  void set_used(LogicalOffset chunk, uint64_t bytes);

  /// A range of at most `wanted` bytes and at least `at_least`, from the loaded chunks.
  std::optional<LogicalRange> take(uint64_t wanted, uint64_t at_least);
  void record(LogicalRange range);
  void cancel(LogicalRange range);
  /// False if `range` is not allocated: it is in no data chunk, or free already.
  bool free(LogicalRange range, Generation birth, Generation running);
  /// Everything that is freed in `running` or earlier is pinned, whatever its birth.
  void pin_freed_in(Generation running) { pin_freed_in_ = std::max(pin_freed_in_, running); }
  void release_pins(Generation up_to);

  /// Starts loading the unloaded chunk with the most free space. Null if that is less than
  /// `min_free` bytes or, with `worthwhile`, less than 1/64 of its length.
  std::shared_ptr<const Chunk> begin_load(uint64_t min_free, bool worthwhile);
  void finish_load(const Chunk& chunk, const Result<std::vector<LogicalRange>>& listed);
  unsigned loading() const { return loading_; }

  bool contains(LogicalOffset chunk) const { return chunks_.count(chunk) > 0; }
  void freeze(uint64_t id, LogicalRange within_one_chunk);
  void thaw(uint64_t id, LogicalOffset chunk);
  /// The free and not frozen parts of a range within one chunk. None if the chunk is not loaded.
  std::vector<LogicalRange> usable_in(LogicalRange within_one_chunk) const;
  /// True if there is free space: after take() has failed, a thaw may help.
  bool frozen_could_serve() const;

  std::vector<UsageChange> usage_changes() const;
  void usage_is_recorded(const std::vector<UsageChange>& changes);
  /// Chunks that could not be loaded may be tried again.
  void retry_failed_loads();
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
  /// (blocks, ~start): ordered by blocks; among equals the lowest address is the highest key.
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
    Index* index = nullptr;  // that holds this chunk now, under `key`
    Key key;
  };

  Entry* find(LogicalRange range);
  std::optional<LogicalRange> take_from(Entry& entry, uint64_t wanted, uint64_t at_least);
  void update(Entry& entry);

  std::map<LogicalOffset, Entry> chunks_;
  Index by_longest_run_;             // loaded chunks with free blocks
  Index by_free_;                    // unloaded chunks with free blocks
  std::set<LogicalOffset> changed_;  // used bytes differ from the usage record
  std::set<LogicalOffset> empty_;    // nothing recorded, in flight or pinned
  std::map<Generation, std::vector<LogicalRange>> pins_;
  LogicalOffset current_;  // the chunk of the last allocation
  Generation pin_freed_in_;
  unsigned loading_ = 0;
  bool any_failed_ = false;
  uint64_t chunk_bytes_ = 0, recorded_ = 0, in_flight_ = 0, pinned_ = 0;
};

}  // namespace moltfs::alloc
