// SPDX-License-Identifier: MIT
// A volume: its devices, chunks, mapper, space and superblocks, tied together. What fs and replace
// stand on.
//
// Life of a commit, seen from here (fs/tree/transaction.cc drives it):
//   1. fs closes its transaction and, in the same critical section, calls seal().
//   2. fs writes its nodes through write().
//   3. finish_commit(): delayed writes -> chunk table if it changed -> flush of all devices, target included ->
//      superblock copy 0 on all members -> flush -> copy 1. From the second flush on the commit is
//      durable: pinned space is released, the device extents of removed chunks are discarded and
//      free. Copy 1 is made durable by the next commit's first flush, before copy 0 is touched.
// Whatever fails on a member in 2 or 3 is fatal: the caller turns the filesystem read-only.
// Whatever fails on the target only goes to the CommitHook (R8).
//
// Swap (finish of a replace): the engine calls request_swap(); the next finish_commit() that comes
// from a seal after that call writes a new chunk table, to the target as well, flushes, and then
//   a. opens the window: from here to c a writer whose write to the source or to the target fails
//      waits for the outcome; asks the hook whether duplication still stands,
//   b. writes the target's superblock as member devid N, flushes, reads both copies back, compares,
//   c. *the swap is done*: publishes the plain map with the target as devid N,
//   d. writes the other members' superblocks, and the source's with role "replaced".
//
//   none --request_swap--> requested --seal--> sealed --a--> open --c--> done
//                                                  \           \--(b or a write failed)--> failed
//                                                   \--(no target, its flush failed)------> failed
//
// After c the target is the member and the source is nobody: under a map of before c a failed write
// to the target is made once more (only then it is an I/O error), one to the source is tolerated.
// If the swap fails it is the other
// way round, and a write to the target that failed within the window makes it fail: so no fault of
// the target before c is ever seen by a user.
//
// A crash before b is durable leaves the source valid, after it the target: the commit before had
// `pending_swap` set, so whoever opens the source looks at the target first, and the target's
// superblock names its `predecessor`, so whoever opens the target looks at the source.
// If b fails the commit goes on as an ordinary one on the source, without `pending_swap`: its
// generation is the same as the one that the target may bear, and between a superblock with
// `predecessor` and one without the latter wins. When that is durable the target's superblock is
// set back to role "target" (and wiped if that fails too).
//
// Concurrency: methods are safe from any task. No lock is held across I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "alloc/device/device.h"
#include "alloc/disk/log_batch.h"
#include "alloc/disk/superblock.h"
#include "alloc/space/map.h"
#include "alloc/space/space.h"
#include "alloc/volume/write_buffer.h"

namespace moltfs::alloc {

struct LogicalWrite {
  LogicalOffset at;
  ConstBytes bytes;  ///< aligned, multiple of kBlockSize, within one chunk
};

struct LogicalRead {
  LogicalOffset at;
  Bytes into;                  ///< aligned, multiple of kBlockSize, within one chunk
  Result<void> result = ok();  ///< set by read_batch
};

/// What the replace engine does during commits and on faults of the target. All calls but
/// target_fault come from the one committer, in this order.
class CommitHook {
 public:
  virtual ~CommitHook() = default;
  /// In fs's critical section: memory only. What is finished now may be recorded by this commit.
  virtual void on_seal(Generation closing) = 0;
  /// After the flush of all devices; `target_flushed`: there is a target and its flush (and all
  /// its writes before) succeeded. Returns the replace payload for the superblock (R5).
  virtual std::vector<std::byte> on_flushed(Generation closing, bool target_flushed) = 0;
  /// The commit is durable.
  virtual void on_durable(Generation closed) = 0;
  /// A write, flush or superblock write of the target failed. Called before the user's write
  /// returns. Must not do I/O. REQUIRES: no lock held.
  virtual void target_fault(IoOp op, const Error& error) = 0;
  /// True if every write since arming has reached the target. Asked at step a of a swap; from a
  /// true answer on, target_fault is not called until the swap's outcome is known.
  virtual bool duplication_stands() = 0;
};

struct SwapOutcome {
  bool done = false;
  std::string reason;  ///< if not done
};

class Volume {
 public:
  struct CreateOptions {
    std::string label;
    uint64_t chunk_size = 0;  ///< 0: chosen from the volume's size
    Profile data_profile = Profile::single, metadata_profile = Profile::dup;
  };
  /// For mkfs: takes the opened devices and makes an empty volume in memory; the first commit
  /// writes it. Errors: device_too_small with a sentence.
  static Result<std::unique_ptr<Volume>> create(Runtime& runtime, DeviceOpener& opener,
                                                std::vector<std::shared_ptr<Device>> devices,
                                                const CreateOptions& options);

  struct OpenOptions {
    bool read_only = false;
    std::vector<std::string> hints;  ///< -o device=PATH: looked at for missing members, target
    bool abandon_swap = false;       ///< go on with the source though a pending target is lost
    bool ignore_log = false;         ///< as if nothing were in the fsync log; REQUIRES: read_only
    bool search = true;              ///< look among opener.candidates() for missing members
  };
  /// Opens `paths` and whatever other members the newest superblock names. Errors, each with a
  /// sentence that names the path: not_found, device_in_use, bad_superblock (no moltfs),
  /// replaced_device ("... was replaced by uuid U (PATH) ..."), bad_target (an unfinished target),
  /// missing_device, unsupported_feature, bad_chunk_table, device_too_small (device shorter than
  /// recorded).
  static Result<std::unique_ptr<Volume>> open(Runtime& runtime, DeviceOpener& opener,
                                              std::vector<std::string> paths,
                                              const OpenOptions& options);
  ~Volume();

  // ---- What it is.
  Runtime& runtime();
  DeviceOpener& opener();
  IoEngine& engine();
  Mapper& mapper();
  Space& space();
  bool read_only() const;
  /// The newest durable superblock (device fields: of the first member).
  Superblock superblock() const;
  std::vector<DeviceEntry> devices() const;
  std::shared_ptr<Device> device(DeviceId id) const;  ///< null if there is none
  void set_label(std::string label);                  ///< durable with the next commit
  void set_hook(CommitHook* hook);                    ///< null: none

  // ---- I/O by logical address. `guard` must be younger than the allocation of the range.
  MapGuard acquire_map() { return mapper().acquire(); }
  /// All copies of all writes, and the target's, in parallel. A failure on the target goes to the
  /// hook; on a member it is returned.
  Result<void> write(const MapGuard& guard, std::span<const LogicalWrite> writes);
  /// The same, now or later (delayed_writes.h). `guard` is to be held until the writes are recorded
  /// in a transaction. `owner`: who is to be told if it fails later, by take_write_failure().
  Result<void> write_later(const MapGuard& guard, std::span<const LogicalWrite> writes,
                           uint64_t owner);
  /// Why a delayed write for `owner` (nothing: for any) failed on a member; told once.
  std::optional<Error> take_write_failure(std::optional<uint64_t> owner);
  /// One copy. Errors: io_error and the like with devid and offset; bad_chunk_table.
  Result<void> read(const MapGuard& guard, LogicalOffset at, Bytes into, unsigned copy);
  /// One copy of each, in parallel.
  void read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy);
  unsigned copies_at(const MapGuard& guard, LogicalOffset at) const;  ///< 0: no such chunk
  /// True if a member takes discards.
  bool can_discard() const;
  /// Discards ranges that are free and frozen, on the target, too, where devices take it; what
  /// fails is let be. Returns the bytes discarded on members.
  uint64_t discard(std::span<const LogicalRange> ranges);
  /// Rewrites one copy with right bytes. REQUIRES: `at` is frozen and still what it was.
  Result<void> repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes, unsigned copy);

  // ---- Commit.
  Space::Sealed seal(Generation closing);
  Result<void> finish_commit(const Space::Sealed& sealed, std::vector<std::byte> fs_payload);
  // ---- The fsync log (fsync_log.h).
  /// What the log held when the volume was opened; its chunks are in the map.
  const FoundLog& found_log() const;
  /// The number of this mount's first transaction (L4).
  Generation first_generation() const;
  /// The empty chain on the durable superblock or on the one of the commit that was sealed last.
  /// Nothing if there is no log on that superblock.
  std::optional<LogChain> log_on(Generation base) const;
  /// Writes batches to the members that carry the log, together with all delayed writes; then all
  /// members are flushed, and between the two, if `flush_first`. False: a delayed write has failed
  /// (since the volume was opened), so the batches may name data that is not there. Any error is one of a member.
  Result<bool> write_log(std::span<const LogWrite> writes, bool flush_first);
  /// Bytes that commits and the log wrote beside mapped writes, all devices.
  uint64_t commit_overhead_bytes() const;
  /// That part of it which went to targets.
  uint64_t target_overhead_bytes() const;

  // ---- Replace.
  /// Publishes a map with duplication of devid `source` to `target` (R1); waits for older guards.
  void arm(DeviceId source, std::shared_ptr<Device> target,
           std::shared_ptr<const DuplicationRule> rule);
  /// Publishes the plain map; waits for older guards.
  void disarm();
  /// Publishes the plain map; does not wait. For target_fault.
  void disarm_soon();
  /// From the next commit on superblocks carry this (nothing: cleared).
  void set_pending_swap(std::optional<Superblock::Succession> swap);
  /// See the head of this file. `outcome` is called by the committer once it is known.
  void request_swap(DeviceId source, DeviceEntry target,
                    std::function<void(const SwapOutcome&)> outcome);
  /// Takes a request back that no commit has come upon yet; false if there is none such. For an
  /// engine that stops.
  bool withdraw_swap();
  /// Bytes of mapped writes that went to the target since arm().
  uint64_t duplicated_bytes() const;

  class Impl;  // volume_impl.h

 private:
  explicit Volume(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::alloc
