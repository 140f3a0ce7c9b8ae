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
#include <utility>
#include <vector>

#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

class DeviceSpace {
 public:
  static constexpr uint64_t kUnit = 1024 * 1024;

  void set_end(DeviceId device, uint64_t end_bytes);
  /// A device that is out (in at first) takes a new chunk only if the profile has copies on several
  /// devices and needs more devices than are in. Then each column has a copy on one that is in.
  void set_in(DeviceId device, bool is_in);
  void occupy(const std::shared_ptr<const Chunk>& chunk);
  /// The chunk is no longer in the running table; its extents stay occupied until release().
  void retire(const Chunk& chunk);
  void release(const Chunk& chunk);

  /// Bytes between kFirstChunkOffset and the usable end, of all devices.
  uint64_t usable_bytes() const { return usable_; }
  /// The part of usable_bytes() that chunks of `profile` can fill, if all devices are in.
  uint64_t usable_bytes_for(Profile profile) const {
    const auto found = usable_for_.find(profile);
    return found == usable_for_.end() ? 0 : found->second;
  }
  uint64_t unallocated_bytes() const;
  /// A number that changes whenever the results of potential() and place() may change.
  uint64_t changes() const { return changes_; }
  /// Chunk bytes (logical) of `profile` that the unallocated space gives: k stripes on k devices,
  /// as often as sum(min(free, N)) >= k * N allows. place() reaches it, whatever the devices' sizes.
  uint64_t potential(Profile profile) const;

  struct Placement {
    uint64_t length = 0;  ///< of the chunk
    uint16_t copies = 1;
    std::vector<std::pair<DeviceId, PhysicalOffset>> stripes;
    uint64_t stripe_length() const { return length * copies / stripes.size(); }
  };
  /// A place for a chunk of `length` bytes (rounded to whole units for each column) or, if there is
  /// none, for the longest chunk that fits. Prefers devices with more unallocated space, and for
  /// raid0 and raid10 many devices. Takes fewer devices, or less, where the space that is left
  /// would otherwise give less than potential(profile) says.
  std::optional<Placement> place(Profile profile, uint64_t length) const;
  /// What potential(profile) would be with `placement` occupied.
  uint64_t potential_after(Profile profile, const Placement& placement) const;
  /// What potential(profile) would be if chunks of `taken` had taken `bytes` (logical), unit by
  /// unit, from the devices with the most unallocated space; for raid0 and raid10 from as many
  /// devices as possible if that leaves less. May be a little less.
  uint64_t potential_without(Profile profile, Profile taken, uint64_t bytes) const;
  /// The length of a chunk of `profile` that leaves at least half of what each of its devices has, if
  /// these are the ones with the most unallocated space. May be 0.
  uint64_t half_length(Profile profile) const;
  /// For each device the bytes that chunks of `profile` cannot use if all devices are in: there is
  /// not enough on the others.
  std::map<DeviceId, uint64_t> left_over(Profile profile) const;
  /// Bytes of `device` in no chunk; and between kFirstChunkOffset and its usable end.
  uint64_t unallocated_on(DeviceId device) const;
  uint64_t usable_on(DeviceId device) const;

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

  struct FreeUnits {
    std::vector<uint64_t> in, out;
  };
  /// `taken`: bytes that count as not free.
  FreeUnits free_units(const std::vector<std::pair<DeviceId, uint64_t>>& taken = {}) const;
  static uint64_t potential_of(Profile profile, const FreeUnits& free);
  static void take(FreeUnits& free, Profile profile, uint64_t bytes);

  struct Candidate {
    DeviceId id;
    const DeviceState* device;
    uint64_t longest;  ///< stripe that fits, or two of them for dup
  };
  struct Choice {
    std::vector<Candidate> devices;
    uint64_t stripe_length = 0;  ///< 0: there is none
  };
  uint64_t longest_without_loss(Profile profile, const std::vector<Candidate>& devices,
                                uint64_t limit) const;
  Choice choose(Profile profile, const std::vector<Candidate>& fixed,
                const std::vector<Candidate>& others, size_t count, uint64_t wanted) const;
  void update(const Chunk& chunk);

  std::map<DeviceId, DeviceState> devices_;
  uint64_t usable_ = 0;
  std::map<Profile, uint64_t> usable_for_;
  uint64_t changes_ = 0;
};

}  // namespace moltfs::alloc
