// SPDX-License-Identifier: MIT
// A volume: its devices, chunks, mapper, space and superblocks. The base of fs and of replace.
//
// Life of a commit, as the volume sees it (fs/tree drives it):
//   1. fs closes its transaction and calls seal() in the same critical section.
//   2. fs writes its nodes with write().
//   3. finish_commit(): buffered writes -> chunk table, if it changed -> the target's superblock
//      (target_superblock()) -> flush of all devices, the target included -> superblock copy 0 on
//      all members -> flush -> copy 1. The second flush makes the commit durable. The next commit's
//      first flush makes copy 1 durable, before that commit touches copy 0.
//   4. fs tells those who wait for the commit.
//   5. free_removed(): discards the device extents of the removed chunks, then frees them and the
//      pinned space (space.h S1, S4).
// A failure on a member in 2 or 3 that does not put the member out (see below) is fatal: the caller
// makes the filesystem read-only. The one
// exception is a write that fails because the device is full (device_full): nothing durable has
// changed then, and nothing is lost. The caller repeats steps 2 and 3 for the same sealed
// transaction when there may be room: all nodes are written again, then everything is flushed. (A
// flush never counts as such a failure: after it, earlier writes may be gone.)
// A failure on the target goes to the CommitHook only (R8). Step 5 does not fail.
//
// A device that fails (volume_absence.cc). When a write or flush of a member fails, the member is
// put out, if every piece of every chunk has a copy on another device that is in: a map without it
// is published, and the user's write succeeds. Else it is an I/O error.
//   C2  From then on nothing is written to it, no superblock either.
//   C5  The next commit says in the superblocks of the others that it is out. Until that is durable
//       no commit returns, and nothing is written to the fsync log. So what was acknowledged is
//       never looked for on a device that missed it.
// Errors that are not the device's own do not put it out: device_full, out_of_memory.
//
// Swap (the end of a replace). The engine calls request_swap(). The next commit that is sealed
// after that call writes a new chunk table, to the target as well, flushes, and then:
//   a. It opens the window: from here to c a writer whose write to the source or to the target
//      fails waits for the outcome. It asks the hook whether duplication still stands.
//   b. It writes the target's superblock as member devid N, flushes, reads both copies back and
//      compares them.
//   c. *The swap is done*: it publishes the plain map, in which the target is devid N.
//   d. It writes the superblocks of the other members, and the source's with role "replaced".
//
//   none --request_swap--> requested --seal--> sealed --a--> open --c--> done
//                                                  \           \--(b or a write failed)--> failed
//                                                   \--(no target, its flush failed)------> failed
//
// After step c the target is member N, and the source is no longer part of the volume. Writes that
// still use a map from before c then follow these rules: a failed write to the target is repeated
// once, and only the second failure is an I/O error; a failed write to the source is ignored. If
// the swap fails, the source is still the member: a failed write to the source is an I/O error, and
// a failed write to the target only goes to the hook. A write to the target that fails within the
// window makes the swap fail. So users never see a fault of the target that happens before c.
//
// A crash before b is durable leaves the source valid; a crash after it, the target. The commit
// before set `pending_swap`, so opening the source also reads the target's superblock. The target's
// superblock names its `predecessor`, so opening the target also reads the source's.
// If b fails, the commit goes on as an ordinary commit on the source, without `pending_swap`. The
// target may have a superblock of the same generation; of two such superblocks the one without
// `predecessor` counts. When the commit is durable, the target's superblock gets the role "target"
// again (or is wiped, if that fails too).
//
// Concurrency: all methods may be called by any task, and no lock is held across I/O. The one
// committer calls steps 1 to 5 in order. When the volume is destroyed no call may be under way.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
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
#include "alloc/volume/volume_swap.h"
#include "alloc/volume/write_buffer.h"
#include "alloc/volume/write_failures.h"

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

/// What the replace engine does during commits and when the target fails. The committer makes all
/// calls but target_fault, in this order.
class CommitHook {
 public:
  virtual ~CommitHook() = default;
  /// In the critical section of fs: memory only. This commit may record what is finished now.
  virtual void on_seal(Generation closing) = 0;
  /// After the flush of all devices. `target_flushed`: there is a target, and its flush and all
  /// writes to it before have succeeded. Returns the replace payload for the superblock (R5).
  virtual std::vector<std::byte> on_flushed(Generation closing, bool target_flushed) = 0;
  /// The commit is durable. Nothing that it freed can be reused yet.
  virtual void on_durable(Generation closed) = 0;
  /// A write, flush or superblock write of the target has failed. Called before the user's write
  /// returns. Must not do I/O. REQUIRES: no lock is held.
  virtual void target_fault(IoOp op, const Error& error) = 0;
  /// True if every write since arming has reached the target. Asked in step a of a swap. After the
  /// answer true, target_fault is not called until the outcome of the swap is known.
  virtual bool duplication_stands() = 0;
};

/// The superblock of a target of devid `devid` with the uuid `device`, from one of the volume. Its
/// generation says how new the target is: a commit whose record claims anything of the target has
/// flushed a superblock of its own generation there before. So a target with an older one was put
/// back from a copy.
Superblock target_superblock(Superblock of_volume, DeviceId devid, const Uuid& device);

class Volume {
 public:
  struct CreateOptions {
    std::string label;
    uint64_t chunk_size = 0;  ///< bytes; 0: chosen from the volume's size
    Profile data_profile = Profile::single, metadata_profile = Profile::dup;
  };
  /// For mkfs: takes opened devices and makes an empty volume in memory. The first commit writes
  /// it. Errors, with a sentence: device_too_small, invalid_argument.
  static Result<std::unique_ptr<Volume>> create(Runtime& runtime, DeviceOpener& opener,
                                                std::vector<std::shared_ptr<Device>> devices,
                                                const CreateOptions& options);

  struct OpenOptions {
    bool read_only = false;
    std::vector<std::string> hints;  ///< -o device=PATH: where members or the target may be found
    bool abandon_swap = false;       ///< go on with the source if a pending target is missing
    bool ignore_log = false;         ///< ignore the fsync log; REQUIRES: read_only
    bool search = true;              ///< search opener.candidates() for missing members
    bool degraded = false;           ///< go on without members that are missing or unusable
  };
  /// Opens `paths` and the other members that the newest superblock names. Errors, each with a
  /// sentence that names the path: not_found, device_in_use, bad_superblock (no moltfs),
  /// replaced_device ("... was replaced by uuid U (PATH) ..."), bad_target (an unfinished target),
  /// missing_device, unsupported_feature, bad_chunk_table, device_too_small (the device is shorter
  /// than recorded). Devices that are out, as the newest superblock says, need not be there. It is
  /// missing_device, too, if a volume opened for writing has chunks without a copy on the others.
  static Result<std::unique_ptr<Volume>> open(Runtime& runtime, DeviceOpener& opener,
                                              std::vector<std::string> paths,
                                              const OpenOptions& options);
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  // ---- Parts and state.
  Runtime& runtime() { return runtime_; }
  DeviceOpener& opener() { return opener_; }
  IoEngine& engine() { return engine_; }
  Mapper& mapper() { return mapper_; }
  Space& space() { return space_; }
  bool read_only() const { return read_only_; }
  /// The newest durable superblock. Its device fields are those of the first member.
  Superblock superblock() const;
  std::vector<DeviceEntry> devices() const;
  std::shared_ptr<Device> device(DeviceId id) const;  ///< null if there is none, or if it is out
  /// Puts a device out (see the head of this file); `why` goes to the log. Nothing happens if it is
  /// out already. Durable with the next commit. Errors, with a sentence: not_found, read_only,
  /// invalid_argument (it has the only copy of something).
  Result<void> put_out(DeviceId devid, std::string_view why);
  /// Durable with the next commit. A label that cannot be recorded is cut.
  void set_label(const std::string& label);
  void set_hook(CommitHook* hook) { hook_ = hook; }  ///< null: none

  // ---- I/O by logical address (volume_io.cc). Take the guard after the range was allocated.
  MapGuard acquire_map() { return mapper_.acquire(); }
  /// Writes all copies, and those on the target, in parallel. A failure on the target goes to the
  /// hook; a failure on a member is returned.
  Result<void> write(const MapGuard& guard, std::span<const LogicalWrite> writes);
  /// The same, but the bytes may stay in the write buffer for a while (write_buffer.h). Hold
  /// `guard` until the writes are recorded in a transaction. `owner` is an inode number: if a write
  /// fails later, write_failures() tells. Error: device_full, and those of write().
  Result<void> write_buffered(const MapGuard& guard, std::span<const LogicalWrite> writes,
                              uint64_t owner);
  /// Buffered writes that have failed on a member.
  WriteFailures& write_failures() { return write_failures_; }
  /// Reads one copy (Map::kAnyCopy: any). Errors: io_error and the like with devid and offset;
  /// bad_chunk_table; missing_device.
  Result<void> read(const MapGuard& guard, LogicalOffset at, Bytes into, unsigned copy);
  /// Reads one copy of each, in parallel.
  void read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy);
  unsigned copies_at(const MapGuard& guard, LogicalOffset at) const;  ///< 0: no such chunk
  /// True if a member supports discards.
  bool can_discard() const;
  /// Discards ranges that are free and frozen, on all devices that support it, the target included.
  /// Failures are ignored. Returns the bytes that were discarded on members.
  uint64_t discard(std::span<const LogicalRange> ranges);
  /// Overwrites one copy, which is bad. REQUIRES: the range is frozen, and `bytes` are its content.
  Result<void> repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes, unsigned copy);

  // ---- Commit (volume_commit.cc).
  Space::Sealed seal(Generation closing);
  /// Returns when the commit is durable and on_durable has returned. Nothing is free yet. Errors:
  /// device_full (call it again later, with the same arguments), else fatal.
  Result<void> finish_commit(const Space::Sealed& sealed, std::vector<std::byte> fs_payload);
  /// Discards what the commit removed, then frees it. Call it once after each finish_commit() that
  /// has succeeded, before the next seal(). A device that fails to discard only keeps old bytes.
  void free_removed(const Space::Sealed& sealed);

  // ---- The fsync log (log_batch.h, volume_log.cc).
  /// What the log held when the volume was opened. The map has its chunks.
  const FoundLog& found_log() const { return found_log_; }
  /// The number of this mount's first transaction (L4).
  Generation first_generation() const;
  /// An empty chain on the superblock of generation `base`: the durable one, or that of the commit
  /// that was sealed last. Nothing if there is no log on it.
  std::optional<LogChain> log_on(Generation base) const;
  /// Writes the batches to the members that carry the log, and all buffered writes with them. Then
  /// flushes all members. With `flush_first` it writes the buffered writes and flushes once more
  /// before. False: a buffered write has failed since the volume was opened, so the batches may
  /// name data that is not on the devices. Errors are those of a member. After device_full, and
  /// after missing_device (a device is out, and no durable superblock says so), the chains cannot be
  /// continued, and a commit is needed.
  Result<bool> write_log(std::span<const LogWrite> writes, bool flush_first);

  // ---- Replace.
  /// Publishes a map with duplication of devid `source` to `target` (R1). Waits for older guards.
  /// `target_uuid`: what the target's superblock has; commits keep its generation up to date. Nil:
  /// they do not write it.
  void arm(DeviceId source, std::shared_ptr<Device> target,
           std::shared_ptr<const DuplicationRule> rule, const Uuid& target_uuid = Uuid());
  /// Publishes the plain map. Waits for older guards: after that nothing writes to the target.
  void disarm();
  /// Publishes the plain map and does not wait. For target_fault.
  void disarm_soon();
  /// Sets `pending_swap` in the superblocks of later commits. Nothing: clears it.
  void set_pending_swap(std::optional<Superblock::Succession> swap);
  /// See the head of this file. The committer calls `outcome` when the outcome is known. With
  /// `keep_source`, the source's superblock says that it has blocks which the target lacks: it can
  /// still be mounted read-only.
  void request_swap(DeviceId source, DeviceEntry target,
                    std::function<void(const SwapOutcome&)> outcome, bool keep_source = false);
  /// Withdraws the request. False if there is none, or if a commit has already taken it.
  bool withdraw_swap();
  /// Bytes of mapped writes that went to the target since arm().
  uint64_t duplicated_bytes() const { return duplicated_bytes_; }

 private:
  class Commit;  // volume_commit.cc
  using Requests = boost::container::small_vector<IoRequest, 8>;
  /// Mapped writes: the first requests write the segments, one each. Other requests may follow.
  struct Plan {
    boost::container::small_vector<Segment, 8> segments;
    Requests requests;
    void add(const Segment& segment, ConstBytes bytes);
    Result<void> add(const Map& map, const LogicalWrite& write);
  };
  struct Failures;
  /// A request on a member that has failed.
  struct Fault {
    DeviceId devid;
    const Device* device;
    Error error;
  };

  /// `superblock`: the durable one (generation 0: none is durable yet). `entries`: the devices as
  /// they are now; those that went out when they were opened have no `drop_log_id` yet. `devices`:
  /// those that are in, opened.
  Volume(Runtime& runtime, DeviceOpener& opener, bool read_only, Superblock superblock,
         std::vector<DeviceEntry> entries, Map::Devices devices, ChunkList chunks);

  /// `error` with the place where it happened.
  static Error located(Error error, DeviceId device, uint64_t offset);

  Result<void> run_writes(const Map& map, Plan& plan);
  Result<void> judge_writes(const Map& map, Plan& plan);
  Result<void> survive(std::span<const Fault> faults);
  Result<void> put_out(DeviceId devid, const Device* device, std::string_view why);
  bool absences_are_durable() const;
  DeviceEntry* entry_of(DeviceId devid);  // null: there is none; REQUIRES: mutex_
  static Failures failures_of(const Map& map, std::span<const Segment> segments,
                              std::span<const IoRequest> requests);
  Result<void> repeat_on_target(std::span<const Segment> segments, std::span<IoRequest> requests);

  Result<void> drain_buffer();
  Result<void> write_batch(const WriteBuffer::Batch& batch);
  Plan plan_batch(const Map& map, const WriteBuffer::Batch& batch) const;
  Result<void> end_batch(const MapGuard& guard, const WriteBuffer::Batch& batch,
                         const Result<void>& written);
  Result<void> find_lost(const MapGuard& guard, const WriteBuffer::Batch& batch);

  void find_log();
  FoundLog read_log_from(Device& device);
  Result<void> flush_members(const Map& map);

  Superblock next_superblock() const;
  std::optional<SwapRequest> take_swap_request(Generation closing);
  void put_target_in_place(const DeviceEntry& entry, std::shared_ptr<Device> target);
  void report_target_fault(IoOp op, const Error& error);

  Runtime& runtime_;
  DeviceOpener& opener_;
  IoEngine& engine_;
  const bool read_only_;
  Mapper mapper_;
  Space space_;
  SwapWindow window_;
  WriteBuffer buffer_;
  WriteFailures write_failures_;
  std::atomic<bool> buffered_write_lost_{false};  // since the volume was opened
  std::atomic<uint64_t> duplicated_bytes_{0};
  std::atomic<CommitHook*> hook_{nullptr};
  const uint64_t log_id_;          // of the superblocks that this mount writes
  const size_t log_device_count_;  // how many members carry the fsync log
  FoundLog found_log_;             // set when the volume is opened

  std::mutex out_mutex_;  // held while a device is put out, or put in the place of another
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  Superblock durable_;
  std::string label_;
  std::vector<DeviceEntry> entries_;  // by devid, as the devices are now
  std::optional<Superblock::Succession> pending_swap_;
  std::optional<SwapRequest> swap_request_;
  Uuid target_uuid_;  // of the last arm()
};

}  // namespace moltfs::alloc
