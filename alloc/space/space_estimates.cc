// SPDX-License-Identifier: MIT
// Space: the reserves, and estimates of how much can be written.
#include <algorithm>

#include "alloc/disk/superblock.h"
#include "alloc/space/space.h"

namespace moltfs::alloc {
namespace {

constexpr uint64_t kMinReserve = 96 * kNodeSize;
constexpr uint64_t kMaxReserve = 512 * 1024 * 1024;
/// This many bytes of data need at most one byte of metadata: an extent of one block takes 98 bytes
/// in two trees, whose leaves are at least half full.
constexpr uint64_t kDataPerMetadata = 21;
/// The headroom for such metadata is at most this: on a volume of more than a terabyte not all data
/// will be in single blocks.
constexpr uint64_t kMaxHeadroom = 64ull * 1024 * 1024 * 1024;
/// Bytes of nodes that a small change takes.
constexpr uint64_t kSmallChange = 32 * kNodeSize;

}  // namespace

// ---- Reserves

uint64_t Space::reserve() const {
  const uint64_t usable = devices_.usable_bytes_for(geometry_.metadata_profile);
  return std::clamp(round_down(usable / 256, kNodeSize), kMinReserve, kMaxReserve);
}

/// Node bytes that an operation of this class must leave free.
uint64_t Space::kept_from(ReserveClass reserve_class) const {
  switch (reserve_class) {
    case ReserveClass::normal:
      return reserve();
    case ReserveClass::reclaiming:
      return round_down(reserve() / 4, kNodeSize);
    case ReserveClass::committing:
      break;
  }
  return 0;
}

/// Less than the chunk size on small volumes, where one of full size would take a large part.
uint64_t Space::metadata_chunk_size() const {
  uint64_t size = DeviceSpace::kUnit;
  const uint64_t limit = std::min({geometry_.chunk_size, kMaxMetadataChunkBytes,
                                   devices_.usable_bytes_for(geometry_.metadata_profile) / 32});
  while (size * 2 <= limit) size *= 2;
  return size;
}

Space::NodeSpace Space::node_space() const {
  return {less(nodes_.free(), reserved_nodes_) * kNodeSize, nodes_.allocated() * kNodeSize};
}

/// True if metadata has the space that it may need for `data_chunk_bytes` of data chunks.
/// `potential`: node bytes that the unallocated space gives.
bool Space::has_headroom(const NodeSpace& space, uint64_t potential,
                         uint64_t data_chunk_bytes) const {
  const uint64_t worst = data_chunk_bytes / kDataPerMetadata;
  const uint64_t growth = std::min(less(worst, space.used_bytes), kMaxHeadroom);
  return space.free_bytes + potential >= reserve() + growth;
}

bool Space::leaves_headroom(const DeviceSpace::Placement& placement) const {
  return has_headroom(node_space(), devices_.potential_after(geometry_.metadata_profile, placement),
                      data_.chunk_bytes() + placement.length);
}

// ---- Estimates

/// Data bytes that new chunks would give without breaking leaves_headroom(). With less node space,
/// free or used, the result is never larger.
uint64_t Space::new_data_bytes(const NodeSpace& space) const {
  const auto leaves_headroom = [&](uint64_t bytes) {
    const uint64_t potential =
        devices_.potential_without(geometry_.metadata_profile, geometry_.data_profile, bytes);
    return has_headroom(space, potential, data_.chunk_bytes() + bytes);
  };
  uint64_t fits = 0;
  uint64_t too_many = devices_.potential(geometry_.data_profile) / DeviceSpace::kUnit + 1;
  while (too_many - fits > 1) {
    const uint64_t middle = fits + (too_many - fits) / 2;
    (leaves_headroom(middle * DeviceSpace::kUnit) ? fits : too_many) = middle;
  }
  return fits * DeviceSpace::kUnit;
}

/// Data bytes that the node space can record if they are in single blocks.
uint64_t Space::recordable_bytes() const {
  const uint64_t nodes = node_space().free_bytes + devices_.potential(geometry_.metadata_profile);
  return less(nodes, reserve() + kSmallChange) * kDataPerMetadata;
}

DeviceSpace Space::device_space() const {
  std::lock_guard lock(mutex_);
  return devices_;
}

SpaceUsage Space::usage() const {
  std::lock_guard lock(mutex_);
  SpaceUsage usage;
  usage.device_bytes = devices_.usable_bytes();
  usage.unallocated_bytes = devices_.unallocated_bytes();
  usage.capacity_bytes =
      devices_.usable_bytes_for(geometry_.data_profile) / copies_of(geometry_.data_profile);
  usage.data_chunk_bytes = data_.chunk_bytes();
  usage.data_used_bytes = data_.recorded_bytes() + data_.in_flight_bytes();
  usage.metadata_chunk_bytes = nodes_.size() * kNodeSize;
  usage.metadata_used_bytes = nodes_.allocated() * kNodeSize;
  usage.pinned_data_bytes = data_.pinned_bytes();
  usage.pinned_bytes = usage.pinned_data_bytes + nodes_.pinned() * kNodeSize;

  const uint64_t free =
      less(usage.data_chunk_bytes, usage.data_used_bytes) + new_data_bytes(node_space());
  usage.recordable_bytes = recordable_bytes();
  usage.available_bytes = usage.recordable_bytes == 0 ? 0 : less(free, kDataReserve);
  return usage;
}

bool Space::basis_holds(const NodeSpace& now) const {
  const auto within = [](uint64_t min, uint64_t value, uint64_t max) {
    return min <= value && value <= max;
  };
  return basis_.device_changes == devices_.changes() &&
         basis_.data_chunk_bytes == data_.chunk_bytes() &&
         within(basis_.min.free_bytes, now.free_bytes, basis_.max.free_bytes) &&
         within(basis_.min.used_bytes, now.used_bytes, basis_.max.used_bytes);
}

/// Costs a few comparisons in most cases. new_data_bytes() is computed for a little less node space
/// than there is, and the result is used until the node space has changed by more than that, or a
/// chunk was made or removed.
void Space::update_surely_free() {
  const NodeSpace now = node_space();
  if (!basis_holds(now)) {
    basis_.potential = devices_.potential(geometry_.metadata_profile);
    basis_.device_changes = devices_.changes();
    basis_.data_chunk_bytes = data_.chunk_bytes();
    const uint64_t margin = (now.free_bytes + basis_.potential) / 32;
    basis_.min = {less(now.free_bytes, margin), less(now.used_bytes, margin)};
    basis_.max = {now.free_bytes + margin, now.used_bytes + margin};
    basis_.new_data_bytes = new_data_bytes(basis_.min);
  }
  const uint64_t recordable =
      less(now.free_bytes + basis_.potential, reserve() + kSmallChange) * kDataPerMetadata;
  const uint64_t free = less(data_.free_bytes() + basis_.new_data_bytes, kDataReserve);
  surely_free_.store(std::min(recordable, free), std::memory_order_relaxed);
}

uint64_t Space::pinned_bytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = data_.pinned_bytes() + nodes_.pinned() * kNodeSize + retired_bytes_;
  for (const auto& chunk : chunks_to_remove()) bytes += chunk->length;
  return bytes;
}

uint64_t Space::metadata_reserve() const {
  std::lock_guard lock(mutex_);
  return reserve();
}

}  // namespace moltfs::alloc
