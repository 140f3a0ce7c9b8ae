// SPDX-License-Identifier: MIT
// Space: what is free inside chunks, and the making and removing of chunks.
//
// States of a block (4 KiB in data chunks, 16 KiB in metadata chunks):
//
//      allocate            free (born in the running transaction)
//   free ------> allocated ---------------------------------------> free
//                    |  free (born earlier,        commit of that
//                    |        or in the log)       transaction
//                    +---------------> pinned ------------------> free
//                                      (a durable superblock or the fsync log still reaches it)
//   frozen is a second property: a frozen range is not handed out, and no chunk under it is
//   removed, whatever the state of its blocks (the copier reads and writes it just now).
//
// S1 nothing that a durable superblock reaches is ever handed out, nor what the fsync log on it
//    reaches (fsync_log.h L5): see pin_freed_in().
// S2 nothing frozen is ever handed out, and no chunk under a frozen range goes away.
// S3 logical addresses of chunks only grow: an address of a removed chunk never comes back.
// S4 device extents of a removed chunk are reusable only after the commit that removed it.
//
// The map of a metadata chunk's nodes (with their birth generations) is built at mount and always
// in memory. The map of a data chunk is loaded on first use from what the extent tree leaves
// (AllocatedSource), outside all locks; until then only its used bytes are known, from the small
// usage records.
//
// Reserves, so that a full volume can be emptied, and has names to give until it is full:
//   nodes  normal operations leave `metadata_reserve()` of node space free, what deletes and cuts a
//          quarter of it, which is for commits;
//   chunks data chunks take no unallocated space that metadata may come to need: so much for each
//          byte of data that all of it can lie in single blocks, with their records and checksums;
//   data   normal writes leave kDataReserve free, for what cuts blocks in the middle.
//
// Waiting: an allocation that only a frozen range could serve waits for the thaw; it is never
// no_space. no_space while pinned_bytes() > 0 means that a commit may help: fs commits and retries.
//
// Parts: DataChunks (data_chunks.h), NodeChunks (node_chunks.h) and DeviceSpace (device_space.h)
// know what is free where, over BlockMap (block_map.h); space.cc has the lock, the waiting, the
// making and removing of chunks, and the reserve.
//
// Concurrency: one mutex, over memory only; the mapper's is taken under it, never the other way.
// Methods marked (waits) may wait or do I/O and must be called without any lock held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/disk/chunk.h"
#include "alloc/space/map.h"

namespace moltfs::alloc {

/// Tells what the running extent tree holds within a data chunk. Implemented by fs.
///
/// The tree may change during the call, and the parts of the answer may show different moments;
/// but a record that stood during the whole call is in it, and no part shows a moment at which a
/// record is gone and free_data() for it has not been called.
class AllocatedSource {
 public:
  virtual ~AllocatedSource() = default;
  /// Ranges may touch, overlap or stick out of `chunk`.
  virtual Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) = 0;
};

struct SpaceUsage {
  uint64_t device_bytes = 0;       ///< usable bytes of all devices (without reserved areas)
  uint64_t unallocated_bytes = 0;  ///< in no chunk
  uint64_t data_chunk_bytes = 0, data_used_bytes = 0;
  uint64_t metadata_chunk_bytes = 0, metadata_used_bytes = 0;  ///< logical: dup counts once
  uint64_t pinned_bytes = 0;                                   ///< data and nodes
  uint64_t pinned_data_bytes = 0;                              ///< a commit makes them free
  /// What a user could still write, for statfs: free data space (what is pinned counts) plus what
  /// new data chunks give, less the reserves; 0 if there are no nodes to record it.
  uint64_t available_bytes = 0;
  /// Data for which there are nodes, though it comes in single blocks.
  uint64_t recordable_bytes = 0;
};

class Space;

/// Nodes that an operation may allocate without failing. Gives back what was not used.
class NodeReservation {
 public:
  NodeReservation() = default;
  NodeReservation(NodeReservation&& other) noexcept;
  NodeReservation& operator=(NodeReservation&& other) noexcept;
  ~NodeReservation();
  uint64_t left() const { return left_; }

 private:
  friend class Space;
  Space* space_ = nullptr;
  uint64_t left_ = 0;
};

/// While it lives, its range is frozen (S2).
class Freeze {
 public:
  Freeze() = default;
  Freeze(Freeze&& other) noexcept;
  Freeze& operator=(Freeze&& other) noexcept;
  ~Freeze() { thaw(); }
  void thaw();
  explicit operator bool() const { return space_ != nullptr; }

 private:
  friend class Space;
  Space* space_ = nullptr;
  uint64_t id_ = 0;
};

/// A node as the running trees have it.
struct AllocatedNode {
  LogicalOffset address;
  Generation birth;
};

/// Who may use which part of the reserves: normal none; reclaiming (deletes, truncates, attributes)
/// what is not for commits; committing all.
enum class ReserveClass : uint8_t { normal, reclaiming, committing };

class Space {
 public:
  /// Data that normal writes leave free.
  static constexpr uint64_t kDataReserve = 256 * 1024;

  struct Geometry {
    uint64_t chunk_size = 0;
    Profile data_profile = Profile::single, metadata_profile = Profile::dup;
    /// Usable end of each device (bytes); lowered while a smaller target is armed.
    std::map<DeviceId, uint64_t> device_ends;
  };

  /// Starts from the committed chunks; publishes new ones through `mapper`.
  Space(Runtime& runtime, Mapper& mapper, Geometry geometry, LogicalOffset next_logical);
  ~Space();

  // ---- At mount, before anything else (no lock needed).
  /// Used bytes of a data chunk, from its usage record (chunks without one: 0).
  void set_data_used(LogicalOffset chunk, uint64_t bytes);
  /// Marks one node; false if it is outside every metadata chunk, misaligned or already marked
  /// (two pointers to one node: the trees are damaged).
  bool mark_node(LogicalOffset address, Generation birth);
  /// Data chunks that the fsync log names: they stand in the running table, in no durable one.
  void add_logged(const ChunkList& chunks);
  void set_allocated_source(AllocatedSource* source);

  // ---- Data.
  /// (waits) A contiguous range of up to `wanted` bytes (a multiple of kBlockSize), at least one
  /// block, at most 16 MiB. It is *in flight*: used, but in no usage record, until record_data or
  /// cancel_data. `running` is the birth of a chunk that has to be made. Errors: no_space, and
  /// what AllocatedSource returned if nothing but an unreadable chunk could serve.
  Result<LogicalRange> allocate_data(uint64_t wanted, Generation running,
                                     ReserveClass reserve_class = ReserveClass::normal);
  /// A record that names `range` (all or part of what allocate_data returned) goes into the
  /// running tree. Called in the critical section that inserts it.
  void record_data(LogicalRange range);
  /// A record, or the part of one, that named `range` leaves the running tree. Called in the
  /// critical section that removes it. `birth`: of the extent. Born in the running transaction:
  /// free at once, unless pin_freed_in(running) was called; else pinned until the commit of `running`
  /// is durable. A range that cannot be allocated (the tree is damaged) is logged and ignored.
  void free_data(LogicalRange range, Generation birth, Generation running);
  /// Gives back (a part of) what allocate_data returned and no record ever named.
  void cancel_data(LogicalRange range);
  /// The fsync log is about to name what is recorded now: from here on what is freed in `running`
  /// is pinned, whatever its birth. Called in the critical section that looks at the records.
  void pin_freed_in(Generation running);
  /// The data chunks of the running table from `first` on, and where the next one will begin.
  std::pair<ChunkList, LogicalOffset> data_chunks_from(LogicalOffset first) const;

  // ---- Nodes.
  /// (waits) Nodes that are free, or a new metadata chunk's; the transaction that uses them must
  /// not have been sealed. Errors: no_space.
  Result<NodeReservation> reserve_nodes(uint64_t count, ReserveClass reserve_class,
                                        Generation running);
  /// REQUIRES: reservation.left() > 0. Never fails, never waits.
  LogicalOffset allocate_node(NodeReservation& reservation, Generation birth);
  void free_node(LogicalOffset address, Generation running);
  /// Nodes of the running trees within `range` (pinned ones are not listed), ascending.
  std::vector<AllocatedNode> nodes_in(LogicalRange range) const;

  // ---- Commit. All are called by the one committer, in this order.
  struct UsageChange {
    LogicalOffset chunk;
    uint64_t used_bytes = 0;  ///< 0: the record can go
  };
  /// Data chunks whose used bytes (those with records) differ from what their usage record says.
  std::vector<UsageChange> usage_changes() const;
  /// The usage records of the running trees say this now. Called in one critical section with
  /// usage_changes(); the last time, when none are left, in that of seal().
  void usage_is_recorded(const std::vector<UsageChange>& changes);
  struct Sealed {
    Generation generation;
    std::shared_ptr<const ChunkList> chunks;  ///< the table as this commit writes it
    bool chunks_changed = false;
    bool swaps = false;  ///< set by Volume::seal: the commit is to swap devices
    LogicalOffset next_logical;
    uint64_t data_used_bytes = 0, metadata_used_bytes = 0;
    std::vector<std::shared_ptr<const Chunk>> removed;  ///< S4
  };
  /// Called in the critical section that closes the transaction: what was freed so far is pinned
  /// by it, empty chunks leave the table (but one of each kind).
  Sealed seal(Generation closing);
  /// The commit is durable: pinned space of it and of earlier ones is free.
  void committed(const Sealed& sealed);

  // ---- Replace.
  /// The chunk list of the last durable commit: what the copier walks.
  std::shared_ptr<const ChunkList> committed_chunks() const;
  struct FrozenPiece {
    Freeze freeze;
    std::shared_ptr<const Chunk> chunk;  ///< that stands there now, in the running map
    uint32_t stripe_index = 0;
    PhysicalRange range;  ///< the asked range clipped to the chunk's stripe
  };
  /// (waits) Looks up, in one step with the freezing, what chunk stands at `range` of `device` now
  /// (it may be another than the committed table said, or none: empty freeze, null chunk) and
  /// freezes that part of it. Freezing more nodes than the reserve allows waits for space.
  Result<FrozenPiece> freeze_stripe(DeviceId device, PhysicalRange range);
  /// (waits) Freezes a logical range (repair of a bad copy); empty if no chunk is there.
  Freeze freeze(LogicalRange range);

  // ---- Discarding (trim.h).
  /// (waits) Loads the data chunks that have free blocks and are not loaded yet, as far as they can
  /// be read.
  void load_data();
  struct FreePieces {
    Freeze freeze;
    std::vector<LogicalRange> ranges;
  };
  /// What is free of the data chunks in `range`, and frozen by nobody, in pieces of `least` bytes
  /// or more; frozen from now on. Nobody has or gets it before the thaw, no durable superblock and
  /// no log reaches it, and the copier neither reads nor writes it just now.
  FreePieces freeze_free(LogicalRange range, uint64_t least);

  /// No new chunk on `device` beyond `end_bytes` (a smaller target is armed); 0 lifts the limit to
  /// the device's own size. Also used when the device has got another size by a swap.
  void set_device_end(DeviceId device, uint64_t end_bytes);
  /// End of the last device extent on `device` (running or committed), bytes.
  uint64_t last_extent_end(DeviceId device) const;
  /// Used bytes of the chunk (logical), for progress.
  uint64_t used_bytes(LogicalOffset chunk) const;

  SpaceUsage usage() const;
  /// A lower bound of the data bytes that can be written now without a commit, by normal writes in
  /// single blocks: never more than min(available_bytes - pinned_data_bytes, recordable_bytes) of
  /// usage(), and less than that by a few percent at most while nobody changes anything. It takes
  /// no lock and costs one load. It shows all changes that happened before the call, and perhaps
  /// later ones.
  uint64_t surely_free_bytes() const;
  /// What commits would bring back: pinned blocks, removed chunks, empty chunks that the next seal
  /// removes. Logical bytes.
  uint64_t pinned_bytes() const;
  /// Bytes of nodes that normal operations leave free.
  uint64_t metadata_reserve() const;

 private:
  friend class NodeReservation;
  friend class Freeze;
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::alloc
