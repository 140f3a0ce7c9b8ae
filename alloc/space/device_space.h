// SPDX-License-Identifier: MIT
// The unallocated space of the devices: where device extents lie, and where the extents of a new
// chunk can lie.
//
// Occupied: the stripes of running chunks, and those of removed chunks until release() (S4). All
// places are in units of 1 MiB, between kFirstChunkOffset and the usable end of each device.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

class DeviceSpace {
 public:
  static constexpr uint64_t kUnit = 1024 * 1024;

  void set_end(DeviceId device, uint64_t end_bytes);
  /// A device that is not in is used only for profiles with copies on several devices, where there
  /// are not enough others, and so that each column has a copy on a device that is in.
  void set_in(DeviceId device, bool is_in);
  void occupy(const std::shared_ptr<const Chunk>& chunk);
  /// The chunk is no longer in the running table; its extents stay occupied until release().
  void retire(const Chunk& chunk);
  void release(const Chunk& chunk);

  /// Bytes between kFirstChunkOffset and the usable end, of all devices.
  uint64_t usable_bytes() const { return usable_; }
  uint64_t unallocated_bytes() const;
  /// A number that changes whenever the results of potential() and place() may change.
  uint64_t changes() const { return changes_; }
  /// Chunk bytes (logical) of `profile` that the unallocated space gives. Exact for single and dup.
  /// For profiles across devices it is a little more than what chunks of full size give.
  uint64_t potential(Profile profile) const;

  struct Placement {
    uint64_t length = 0;  ///< of the chunk
    uint16_t copies = 1;
    std::vector<std::pair<DeviceId, PhysicalOffset>> stripes;
    uint64_t stripe_length() const { return length * copies / stripes.size(); }
  };
  /// A place for a chunk of `length` bytes (rounded to whole units for each column) or, if there is
  /// none, for the longest chunk that fits. Prefers devices with more unallocated space.
  std::optional<Placement> place(Profile profile, uint64_t length) const;
  /// What potential(profile) would be with `placement` occupied.
  uint64_t potential_after(Profile profile, const Placement& placement) const;
  /// What potential(profile) would be if `bytes` (whole units) were taken, each unit from the
  /// device with the most unallocated space.
  uint64_t potential_without(Profile profile, uint64_t bytes) const;

  /// The lowest extent of a running chunk on `device` that overlaps `range`.
  std::optional<DeviceExtent> first_extent(DeviceId device, PhysicalRange range) const;
  /// End of the last occupied extent, in bytes. 0 if there is none.
  uint64_t last_extent_end(DeviceId device) const;

 private:
  struct Extent {
    uint64_t length = 0;
    std::shared_ptr<const Chunk> chunk;  // null: retired
    uint32_t stripe_index = 0;
  };
  struct DeviceState {
    uint64_t end = 0;
    bool is_in = true;
    std::map<PhysicalOffset, Extent> extents;
    std::vector<PhysicalRange> gaps;  // ascending, whole units
    uint64_t free = 0;                // sum of gaps
  };
  void find_gaps(DeviceState& device);
  static uint64_t potential_of(Profile profile, const std::vector<uint64_t>& free);
  void update(const Chunk& chunk);

  std::map<DeviceId, DeviceState> devices_;
  uint64_t usable_ = 0;
  uint64_t changes_ = 0;
};

}  // namespace moltfs::alloc
