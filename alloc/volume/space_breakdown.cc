// SPDX-License-Identifier: MIT
// Sums over the chunks of the current map.
#include "alloc/volume/space_breakdown.h"

#include <algorithm>

#include "alloc/space/device_space.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {
namespace {

ProfileSpaceUsage& entry_of(std::vector<ProfileSpaceUsage>& profiles, const Chunk& chunk) {
  for (ProfileSpaceUsage& entry : profiles) {
    if (entry.kind == chunk.kind && entry.profile == chunk.profile) return entry;
  }
  return profiles.emplace_back(ProfileSpaceUsage{.kind = chunk.kind, .profile = chunk.profile});
}

}  // namespace

SpaceBreakdown space_breakdown(Volume& volume) {
  const Superblock superblock = volume.superblock();
  const auto map = volume.mapper().current();
  SpaceBreakdown all;
  all.profiles = {{.kind = ChunkKind::data, .profile = superblock.data_profile},
                  {.kind = ChunkKind::metadata, .profile = superblock.metadata_profile}};
  const DeviceSpace space = volume.space().device_space();
  for (const DeviceEntry& entry : volume.devices()) all.devices.push_back({.devid = entry.devid});
  for (const auto& chunk : map->chunks()) {
    const uint64_t used = volume.space().used_bytes(chunk->start);
    ProfileSpaceUsage& profile = entry_of(all.profiles, *chunk);
    profile.chunk_bytes += chunk->length;
    profile.used_bytes += used;
    profile.device_bytes += chunk->length * chunk->copies;
    const bool is_data = chunk->kind == ChunkKind::data;
    for (const Stripe& stripe : chunk->stripes) {
      const auto device =
          std::find_if(all.devices.begin(), all.devices.end(),
                       [&](const DeviceSpaceUsage& d) { return d.devid == stripe.device; });
      if (device == all.devices.end()) continue;
      (is_data ? device->data_bytes : device->metadata_bytes) += chunk->stripe_length();
      // What is used is spread over the columns.
      (is_data ? device->data_used : device->metadata_used) += used / chunk->columns();
    }
  }
  for (ProfileSpaceUsage& profile : all.profiles) {
    const bool is_for_new =
        profile.profile ==
        (profile.kind == ChunkKind::data ? superblock.data_profile : superblock.metadata_profile);
    if (is_for_new) profile.fits_bytes = space.potential(profile.profile);
  }
  const auto by_data = space.left_over(superblock.data_profile);
  const auto by_metadata = space.left_over(superblock.metadata_profile);
  for (DeviceSpaceUsage& device : all.devices) {
    device.usable_bytes = space.usable_on(device.devid);
    device.unallocated_bytes = space.unallocated_on(device.devid);
    device.useless_bytes = std::min(by_data.at(device.devid), by_metadata.at(device.devid));
  }
  return all;
}

}  // namespace moltfs::alloc
