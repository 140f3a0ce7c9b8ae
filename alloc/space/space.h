// SPDX-License-Identifier: MIT
// Space: what is free inside chunks, and the creation and removal of chunks.
//
// States of a block (4 KiB in data chunks, 16 KiB in metadata chunks):
//
//      allocate            free (born in the running transaction)
//   free ------> allocated ---------------------------------------> free
//                    |  free (born earlier,        commit of that
//                    |        or in the log)       transaction
//                    +---------------> pinned ------------------> free
//                                      (a durable superblock or the fsync log still reaches it)
//
// In each of these states a block can be frozen, too: the copier is reading and writing it.
//
// S1 What a durable superblock reaches is never handed out, nor what the fsync log on it reaches
//    (log_batch.h L5): see pin_freed_in().
// S2 What is frozen is never handed out, and no chunk with a frozen range is removed.
// S3 Logical addresses of chunks only grow: the address of a removed chunk is never used again.
// S4 The device extents of a removed chunk can be reused only after the commit that removed it is
//    durable and the extents have been discarded.
//
// Each metadata chunk has a map of its nodes and their birth generations. These maps are built at
// mount and stay in memory. The map of a data chunk is loaded on first use, from what the extent
// tree has no record of (AllocatedSource). No lock is held while it loads. Before that only the
// number of used bytes is known, from the small usage records.
//
// Reserves. They make sure that files can be deleted when the volume is full, and that names can be
// created until it is full:
//   nodes  Normal operations leave metadata_reserve() of node space free. Deletes and truncates
//          leave a quarter of it, which is for commits.
//   chunks Data chunks do not take unallocated space that metadata may need later. The limit is
//          such that all data can lie in single blocks, with their records and checksums.
//   data   Normal writes leave kDataReserve free. Operations that cut a block in two may use it.
//
// Waiting: an allocation that needs a frozen range waits until it is thawed and does not return
// no_space. After no_space a commit may help if pinned_bytes() > 0: then fs commits and retries.
//
// DataChunks, NodeChunks and DeviceSpace know what is free where. Space adds the lock, the waiting,
// the life of chunks, and the reserves.
//
// Concurrency: one mutex, held over memory operations only. The mapper's mutex is taken while it is
// held, never the other way round. Methods marked (waits) may wait or do I/O; call them without any
// lock held.
#pragma once

#include <algorithm>
#include <atomic>
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
#include "alloc/space/data_chunks.h"
#include "alloc/space/device_space.h"
#include "alloc/space/map.h"
#include "alloc/space/node_chunks.h"
#include "alloc/space/space_types.h"

namespace moltfs::alloc {

/// Lists what the running extent tree records within a data chunk. Implemented by fs.
///
/// The tree may change during the call, and different parts of the answer may be from different
/// moments. But a record that exists during the whole call is in the answer, and no part is from a
/// moment when a record was already removed and free_data() was not yet called for it.
class AllocatedSource {
 public:
  virtual ~AllocatedSource() = default;
  /// The ranges may touch, overlap, or extend beyond `chunk`.
  virtual Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) = 0;
};

struct SpaceUsage {
  uint64_t device_bytes = 0;       ///< usable bytes of all devices (without reserved areas)
  uint64_t unallocated_bytes = 0;  ///< in no chunk
  /// What the devices would hold in data chunks alone, for statfs: each byte counts once.
  uint64_t capacity_bytes = 0;
  uint64_t data_chunk_bytes = 0, data_used_bytes = 0;
  uint64_t metadata_chunk_bytes = 0, metadata_used_bytes = 0;  ///< logical: dup counts once
  uint64_t pinned_bytes = 0;                                   ///< data and nodes
  uint64_t pinned_data_bytes = 0;                              ///< a commit makes them free
  /// What a user can still write, for statfs: free data space (pinned space counts as free) plus
  /// what new data chunks give, minus the reserves. 0 if there are no nodes to record it.
  uint64_t available_bytes = 0;
  /// The data bytes that the node space is sure to record, even if they are in single blocks.
  uint64_t recordable_bytes = 0;
};

class Space;

/// Nodes that an operation may allocate without failing. Returns unused ones when destroyed.
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

/// Keeps ranges frozen until it is destroyed or thawed (S2).
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
  Freeze(Space* space, uint64_t id) : space_(space), id_(id) {}
  Space* space_ = nullptr;
  uint64_t id_ = 0;
};

/// Which part of the reserves an operation may use: normal none; reclaiming (deletes, truncates,
/// attributes) all but the part for commits; committing all.
enum class ReserveClass : uint8_t { normal, reclaiming, committing };

class Space {
 public:
  /// Data bytes that normal writes leave free.
  static constexpr uint64_t kDataReserve = 256 * 1024;

  struct Geometry {
    uint64_t chunk_size = 0;
    Profile data_profile = Profile::single, metadata_profile = Profile::dup;
    /// Usable end of each device, in bytes.
    std::map<DeviceId, uint64_t> device_ends;
  };

  /// Starts with the committed chunks, which `mapper` has. Publishes new chunks through `mapper`.
  Space(Runtime& runtime, Mapper& mapper, Geometry geometry, LogicalOffset next_logical);

  // ---- At mount, before other tasks use this object.
  /// Used bytes of a data chunk, from its usage record. Chunks without a record have none.
  void set_data_used(LogicalOffset chunk, uint64_t bytes);
  /// Marks one node as allocated. False if it is outside every metadata chunk, misaligned or
  /// already marked: two pointers lead to one node, so the trees are damaged.
  bool mark_node(LogicalOffset address, Generation birth);
  /// Adds the data chunks that the fsync log names: the running table has them, the durable one
  /// does not.
  void add_logged(const ChunkList& chunks);
  void set_allocated_source(AllocatedSource* source);

  // ---- Data.
  /// (waits) Allocates a contiguous range of up to `wanted` bytes (a multiple of kBlockSize): at
  /// least one block, at most 16 MiB. The range is *in flight* until record_data or cancel_data: it
  /// is used, but no usage record counts it. `running` is the birth of a chunk that has to be made.
  /// Errors: no_space; the error of AllocatedSource if only an unreadable chunk has space left.
  Result<LogicalRange> allocate_data(uint64_t wanted, Generation running,
                                     ReserveClass reserve_class = ReserveClass::normal);
  /// A record of `range` (all or part of an allocated range) is inserted into the running tree.
  /// Call this in the critical section that inserts it.
  void record_data(LogicalRange range);
  /// A record of `range`, or the part of a record, is removed from the running tree. Call this in
  /// the critical section that removes it. `birth` is the extent's. If it was born in `running` and
  /// pin_freed_in(running) was not called, the range is free at once; else it is pinned until the
  /// commit of `running`. If the range is not allocated (the tree is damaged), this is logged and
  /// nothing changes.
  void free_data(LogicalRange range, Generation birth, Generation running);
  /// Returns (a part of) an allocated range that was never recorded.
  void cancel_data(LogicalRange range);
  /// The fsync log is about to name what is recorded now: from now on everything that is freed in
  /// `running` is pinned, whatever its birth. Call this in the critical section that reads these
  /// records for the log.
  void pin_freed_in(Generation running);
  /// The data chunks of the running table with addresses from `first` on, and the address that the
  /// next chunk will get.
  std::pair<ChunkList, LogicalOffset> data_chunks_from(LogicalOffset first) const;

  // ---- Nodes.
  /// (waits) Reserves free nodes, if need be in a new metadata chunk. The transaction that uses
  /// them must not be sealed before. Error: no_space.
  Result<NodeReservation> reserve_nodes(uint64_t count, ReserveClass reserve_class,
                                        Generation running);
  /// REQUIRES: reservation.left() > 0. Never fails, never waits.
  LogicalOffset allocate_node(NodeReservation& reservation, Generation birth);
  void free_node(LogicalOffset address, Generation running);
  /// Nodes of the running trees within `range`, ascending. Pinned nodes are not listed.
  std::vector<AllocatedNode> nodes_in(LogicalRange range) const;

  // ---- Commit. Only one task commits at a time. It calls these in this order.
  /// The data chunks whose recorded bytes differ from their usage records.
  std::vector<UsageChange> usage_changes() const;
  /// The usage records of the running trees have these values now. Call this in the same critical
  /// section as usage_changes(). The last call, after which no changes are left, must be in the
  /// critical section of seal().
  void usage_is_recorded(const std::vector<UsageChange>& changes);
  struct Sealed {
    Generation generation;
    std::shared_ptr<const ChunkList> chunks;  ///< the table that this commit makes durable
    bool chunks_changed = false;
    bool swaps = false;  ///< set by Volume::seal: this commit is to swap devices
    LogicalOffset next_logical;
    uint64_t data_used_bytes = 0, metadata_used_bytes = 0;
    std::vector<std::shared_ptr<const Chunk>> removed;  ///< S4
  };
  /// Call this in the critical section that closes the transaction. Empty chunks leave the table,
  /// except one of each kind.
  Sealed seal(Generation closing);
  /// The commit is durable: committed_chunks() returns its chunks. Nothing comes free yet.
  void made_durable(const Sealed& sealed);
  /// Frees what this commit and earlier ones pinned, and the device extents of `sealed.removed`.
  /// REQUIRES: the commit is durable and these extents have been discarded (S4).
  void committed(const Sealed& sealed);

  // ---- Replace.
  /// The chunk list of the last durable commit. The copier walks it.
  std::shared_ptr<const ChunkList> committed_chunks() const;
  struct FrozenPiece {
    Freeze freeze;
    std::shared_ptr<const Chunk> chunk;  ///< of the running map
    uint32_t stripe_index = 0;
    PhysicalRange range;  ///< the part of the range that was asked for which the stripe covers
  };
  /// (waits) Finds the lowest chunk that the running map has in `range` of `device`, and freezes
  /// the part of `range` that its stripe covers, both in one step. It need not be the chunk that
  /// the committed table has there. No chunk: the freeze is empty and `chunk` is null. Waits for
  /// space if too few nodes would be left for the reservations.
  Result<FrozenPiece> freeze_stripe(DeviceId device, PhysicalRange range);
  /// (waits) Freezes a logical range, to repair a bad copy. Empty if no chunk is there.
  Freeze freeze(LogicalRange range);

  // ---- Discarding (trim.h).
  /// (waits) Loads the maps of all data chunks that have free blocks, as far as they can be read.
  void load_data();
  struct FreePieces {
    Freeze freeze;
    std::vector<LogicalRange> ranges;
  };
  /// Freezes and returns the pieces of data chunks in `range` that are free and not frozen, if they
  /// have `min_bytes` or more. Until the thaw nobody has or gets them, no durable superblock or log
  /// reaches them, and the copier does not touch them.
  FreePieces freeze_free(LogicalRange range, uint64_t min_bytes);

  /// No new chunk will lie on `device` beyond `end_bytes`: a smaller target is armed, or a swap has
  /// changed the device's size. 0: up to the device's own size.
  void set_device_end(DeviceId device, uint64_t end_bytes);
  /// Whether `device` takes writes. New chunks use one that is out only where their profile needs
  /// more devices than are in, and then each byte has a copy on a device that is in.
  void set_device_in(DeviceId device, bool is_in);
  /// End of the last device extent on `device` (running or committed), in bytes.
  uint64_t last_extent_end(DeviceId device) const;
  /// Used bytes of the chunk (logical), for showing progress.
  uint64_t used_bytes(LogicalOffset chunk) const;

  // ---- How much there is (space_estimates.cc).
  /// What is unallocated on each device now: a copy.
  DeviceSpace device_space() const;
  SpaceUsage usage() const;
  /// A lower bound of the data bytes that can be written now without a commit, by normal writes in
  /// single blocks: never more than min(available_bytes - pinned_data_bytes, recordable_bytes) of
  /// usage(), and less than that by a few percent at most while nobody changes anything. It takes
  /// no lock and costs one load. It shows all changes that happened before the call, and perhaps
  /// later ones.
  uint64_t surely_free_bytes() const { return surely_free_.load(std::memory_order_relaxed); }
  /// What commits can make free: pinned blocks, removed chunks, and empty chunks that the next seal
  /// removes. Logical bytes.
  uint64_t pinned_bytes() const;
  /// Bytes of nodes that normal operations leave free.
  uint64_t metadata_reserve() const;

 private:
  friend class NodeReservation;
  friend class Freeze;

  /// Holds the mutex in a method that changes what is free.
  class Change {
   public:
    explicit Change(Space& space) : lock(space.mutex_), space_(space) {}
    ~Change() { space_.update_surely_free(); }
    std::unique_lock<std::mutex> lock;

   private:
    Space& space_;
  };

  /// a - b, but at least 0.
  static uint64_t less(uint64_t a, uint64_t b) { return a - std::min(a, b); }

  // The other private methods REQUIRE that mutex_ is held.
  void wait(std::unique_lock<std::mutex>& lock);
  void wake();
  void note_running(Generation generation) { running_ = std::max(running_, generation); }

  std::optional<DeviceSpace::Placement> place(ChunkKind kind) const;
  bool make_chunk(ChunkKind kind);
  void publish(std::shared_ptr<const ChunkList> list);
  std::vector<std::shared_ptr<const Chunk>> chunks_to_remove() const;
  bool load_one(std::unique_lock<std::mutex>& lock, uint64_t min_free, bool worthwhile);
  uint64_t takable(uint64_t wanted, ReserveClass reserve_class);
  std::optional<uint64_t> try_freeze(const std::vector<LogicalRange>& ranges);
  void thaw(uint64_t id);

  // ---- Estimates (space_estimates.cc).
  struct NodeSpace {
    uint64_t free_bytes = 0;  ///< frozen or not, and not reserved
    uint64_t used_bytes = 0;
  };
  NodeSpace node_space() const;
  uint64_t metadata_chunk_size() const;
  uint64_t reserve() const;
  uint64_t kept_from(ReserveClass reserve_class) const;
  bool has_headroom(const NodeSpace& space, uint64_t potential, uint64_t data_chunk_bytes) const;
  bool leaves_headroom(const DeviceSpace::Placement& placement) const;
  uint64_t new_data_bytes(const NodeSpace& space) const;
  uint64_t recordable_bytes() const;
  /// The costly part of surely_free_bytes(), and the conditions under which it holds.
  struct SurelyFreeBasis {
    uint64_t potential = 0;       // node bytes that unallocated space gives
    uint64_t new_data_bytes = 0;  // for `min`
    uint64_t device_changes = 0, data_chunk_bytes = 0;
    NodeSpace min, max;
  };
  bool basis_holds(const NodeSpace& now) const;
  void update_surely_free();

  Mapper& mapper_;
  const Geometry geometry_;
  std::atomic<uint64_t> surely_free_{0};  // written under mutex_

  mutable std::mutex mutex_;
  std::unique_ptr<WaitQueue> changed_;  // for all who wait
  // Guarded by mutex_:
  unsigned waiting_ = 0;
  AllocatedSource* source_ = nullptr;
  DataChunks data_;
  NodeChunks nodes_;
  DeviceSpace devices_;
  std::shared_ptr<const ChunkList> chunks_;            // the running table
  std::shared_ptr<const ChunkList> sealed_chunks_;     // of the last seal
  std::shared_ptr<const ChunkList> committed_chunks_;  // of the last durable commit
  uint64_t table_bytes_;                               // of the running table, encoded
  LogicalOffset next_logical_;
  Generation running_{1};
  uint64_t reserved_nodes_ = 0;
  uint64_t retired_bytes_ = 0;       // of removed chunks whose extents are not reusable yet
  std::optional<Error> load_error_;  // of this transaction
  std::map<uint64_t, std::vector<LogicalOffset>> freezes_;  // id -> chunks with frozen ranges
  uint64_t last_freeze_ = 0;
  SurelyFreeBasis basis_;
};

}  // namespace moltfs::alloc
