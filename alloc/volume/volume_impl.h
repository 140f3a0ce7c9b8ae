// SPDX-License-Identifier: MIT
// The inside of Volume, shared by volume*.cc: its state, mapped I/O and the switching of maps.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"
#include "alloc/volume/volume_swap.h"

namespace moltfs::alloc {

/// `error` with the place where it arose.
inline Error located(Error error, DeviceId device, uint64_t offset) {
  error.device = device;
  error.offset = offset;
  return error;
}

/// A power of two so that the chunk table stays small on big volumes and small volumes have enough
/// chunks to give both kinds some. `sizes`: bytes of each device.
uint64_t default_chunk_size(const std::vector<DeviceEntry>& devices);

class Volume::Impl {
 public:
  /// `superblock`: the durable one (generation 0: nothing is durable yet). `entries`: the devices
  /// as they are now, behind the devids of `devices`.
  Impl(Runtime& runtime, DeviceOpener& opener, bool read_only, Superblock superblock,
       std::vector<DeviceEntry> entries, Map::Devices devices, ChunkList chunks);

  Result<void> write(const MapGuard& guard, std::span<const LogicalWrite> writes);
  Result<void> write_later(const MapGuard& guard, std::span<const LogicalWrite> writes,
                           uint64_t owner);
  /// Writes all that is delayed, and waits for what others are writing of it. What fails on a
  /// member is kept for take_write_failure().
  void write_delayed();
  std::optional<Error> take_write_failure(std::optional<uint64_t> owner);
  Result<void> read(const MapGuard& guard, LogicalOffset at, Bytes into, unsigned copy);
  void read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy);
  Result<void> repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes, unsigned copy);

  Space::Sealed seal(Generation closing);

  // ---- The fsync log (volume_log.cc)
  /// At mount, before anybody asks: reads what the durable superblock's chain holds.
  void find_log();
  std::optional<LogChain> log_on(Generation base) const;
  Result<bool> write_log(std::span<const LogWrite> writes, bool flush_first);

  void arm(DeviceId source, std::shared_ptr<Device> target,
           std::shared_ptr<const DuplicationRule> rule);
  void disarm_soon();
  /// Step c of a swap, after the window was closed.
  void put_target_in_place(const DeviceEntry& entry, std::shared_ptr<Device> target);
  /// Takes the request that was sealed with `closing`, if there is one.
  std::optional<SwapRequest> take_swap_request(Generation closing);

  /// Tells the hook. REQUIRES: no lock held, no window open.
  void report_target_fault(IoOp op, const Error& error);
  CommitHook* hook() const { return hook_.load(); }
  /// A superblock with all that a commit does not bring: what is durable now, with the running
  /// label, devices and pending swap.
  Superblock next_superblock() const;

  Runtime& runtime;
  DeviceOpener& opener;
  IoEngine& engine;
  const bool read_only;
  Mapper mapper;
  Space space;
  SwapWindow window;
  WriteBuffer delayed;
  std::atomic<bool> content_lost{false};  ///< a delayed write has failed
  std::atomic<uint64_t> overhead_bytes{0}, target_overhead_bytes{0}, duplicated_bytes{0};
  std::atomic<CommitHook*> hook_{nullptr};
  const uint64_t log_id;  ///< of the superblocks that this mount writes
  FoundLog found_log;     ///< set by find_log()

  mutable std::mutex mutex;
  Superblock durable;  // guarded by mutex, as all below
  std::string label;
  std::vector<DeviceEntry> entries;  // by devid, as devices are now
  std::optional<Superblock::Succession> pending_swap;
  std::optional<SwapRequest> swap_request;
  std::map<uint64_t, Error> write_failures;  // of delayed writes, by owner

 private:
  using Requests = boost::container::small_vector<IoRequest, 8>;
  /// Mapped writes: the first requests write the segments; others may follow.
  struct Plan {
    boost::container::small_vector<Segment, 8> segments;
    Requests requests;
    void add(const Segment& segment, ConstBytes bytes);
    Result<void> add(const Map& map, const LogicalWrite& write);
  };
  void write_batch(const WriteBuffer::Batch& batch);
  Plan plan_batch(const Map& map, const WriteBuffer::Batch& batch) const;
  void end_batch(const MapGuard& guard, const WriteBuffer::Batch& batch,
                 const Result<void>& written);
  void find_lost(const MapGuard& guard, const WriteBuffer::Batch& batch);
  Result<void> judge_writes(const Map& map, Plan& plan);
  Result<void> repeat_on_target(std::span<const Segment> segments, std::span<IoRequest> requests);
  Result<void> run_writes(const Map& map, Plan& plan);
  FoundLog read_log_from(Device& device);
  Result<void> flush_members(const Map& map);
};

}  // namespace moltfs::alloc
