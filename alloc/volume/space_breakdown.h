// SPDX-License-Identifier: MIT
// The space of a volume, by device and by profile: for people, not for decisions.
#pragma once

#include <cstdint>
#include <vector>

#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

class Volume;

/// Bytes on one device.
struct DeviceSpaceUsage {
  DeviceId devid;
  uint64_t usable_bytes = 0;                    ///< without the reserved area at the start
  uint64_t data_bytes = 0, metadata_bytes = 0;  ///< in chunks
  uint64_t data_used = 0, metadata_used = 0;    ///< of these
  uint64_t unallocated_bytes = 0;               ///< in no chunk
  /// The part of unallocated_bytes that no new chunk can use, neither of data nor of metadata, if
  /// all devices are in: the other devices have too little space for the other copies.
  uint64_t useless_bytes = 0;
};

/// All chunks of one kind and profile.
struct ProfileSpaceUsage {
  ChunkKind kind = ChunkKind::data;
  Profile profile = Profile::single;
  uint64_t chunk_bytes = 0, used_bytes = 0;  ///< logical: all copies count once
  uint64_t device_bytes = 0;                 ///< that the chunks take on the devices
  /// The logical bytes that all the unallocated space would give in chunks of this kind. 0 if new
  /// chunks of this kind have another profile.
  uint64_t fits_bytes = 0;
};

struct SpaceBreakdown {
  std::vector<DeviceSpaceUsage> devices;    ///< those of Volume::devices(), in this order
  std::vector<ProfileSpaceUsage> profiles;  ///< the profiles of new chunks first: data, metadata
};

/// A picture of the running chunks. While others write, its numbers are from slightly different
/// moments.
SpaceBreakdown space_breakdown(Volume& volume);

}  // namespace moltfs::alloc
