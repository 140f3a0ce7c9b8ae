// SPDX-License-Identifier: MIT
// Placing the stripes of new chunks on the devices.
#include "alloc/space/device_space.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "alloc/disk/superblock.h"

namespace moltfs::alloc {
namespace {

/// The longest stripe (whole units) such that `count` (1 or 2) of it fit into the gaps.
uint64_t longest_stripe(const std::vector<PhysicalRange>& gaps, unsigned count) {
  uint64_t first = 0, second = 0;
  for (const PhysicalRange& gap : gaps) {
    second = std::max(second, std::min(first, gap.length));
    first = std::max(first, gap.length);
  }
  if (count == 1) return first;
  return std::max(second, round_down(first / 2, DeviceSpace::kUnit));
}

struct Layout {
  unsigned stripes_per_device = 1;
  size_t devices_min = 1, devices_max = 1;
  size_t devices_multiple = 1;
};

Layout layout_of(Profile profile) {
  switch (profile) {
    case Profile::single:
      return {};
    case Profile::dup:
      return {2, 1, 1, 1};
    case Profile::raid1:
      return {1, 2, 2, 1};
    case Profile::raid0:
      return {1, 2, kMaxDevices, 1};
    case Profile::raid10:
      return {1, 4, kMaxDevices, 2};
  }
  return {};
}

bool has_copies_on_others(Profile profile) {
  return profile == Profile::raid1 || profile == Profile::raid10;
}

}  // namespace

void DeviceSpace::find_gaps(DeviceState& device) {
  ++changes_;
  device.gaps.clear();
  device.free = 0;
  uint64_t at = kFirstChunkOffset;
  auto add = [&](uint64_t end) {
    const uint64_t first = round_up(at, kUnit), last = round_down(end, kUnit);
    if (first >= last) return;
    device.gaps.push_back({PhysicalOffset(first), last - first});
    device.free += last - first;
  };
  for (const auto& [start, extent] : device.extents) {
    add(std::min(start.value, device.end));
    at = std::max(at, start.value + extent.length);
  }
  add(device.end);
}

void DeviceSpace::update(const Chunk& chunk) {
  std::set<DeviceId> touched;
  for (const Stripe& stripe : chunk.stripes) touched.insert(stripe.device);
  for (DeviceId device : touched) find_gaps(devices_[device]);
}

void DeviceSpace::set_end(DeviceId device, uint64_t end_bytes) {
  devices_[device].end = end_bytes;
  find_gaps(devices_[device]);
  usable_ = 0;
  for (const auto& [id, state] : devices_) {
    usable_ += state.end - std::min(state.end, kFirstChunkOffset);
  }
}

void DeviceSpace::set_in(DeviceId device, bool is_in) {
  devices_[device].is_in = is_in;
  ++changes_;
}

void DeviceSpace::occupy(const std::shared_ptr<const Chunk>& chunk) {
  for (uint32_t i = 0; i < chunk->stripes.size(); ++i) {
    const Stripe& stripe = chunk->stripes[i];
    devices_[stripe.device].extents[stripe.offset] = {chunk->stripe_length(), chunk, i};
  }
  update(*chunk);
}

void DeviceSpace::retire(const Chunk& chunk) {
  for (const Stripe& stripe : chunk.stripes) {
    auto& extents = devices_[stripe.device].extents;
    auto extent = extents.find(stripe.offset);
    if (extent != extents.end()) extent->second.chunk = nullptr;
  }
}

void DeviceSpace::release(const Chunk& chunk) {
  for (const Stripe& stripe : chunk.stripes) devices_[stripe.device].extents.erase(stripe.offset);
  update(chunk);
}

uint64_t DeviceSpace::unallocated_bytes() const {
  uint64_t sum = 0;
  for (const auto& [id, device] : devices_) sum += device.free;
  return sum;
}

uint64_t DeviceSpace::potential_of(Profile profile, const std::vector<uint64_t>& free) {
  uint64_t sum = 0, largest = 0, pairs_within = 0;
  for (uint64_t bytes : free) {
    sum += bytes;
    largest = std::max(largest, bytes);
    pairs_within += round_down(bytes / 2, kUnit);
  }
  const uint64_t pairs_across = round_down(std::min(sum / 2, sum - largest), kUnit);
  switch (profile) {
    case Profile::single:
      return sum;
    case Profile::dup:
      return pairs_within;
    case Profile::raid1:
    case Profile::raid10:
      return pairs_across;
    case Profile::raid0:
      return 2 * pairs_across;
  }
  return 0;
}

uint64_t DeviceSpace::potential(Profile profile) const {
  std::vector<uint64_t> free;
  for (const auto& [id, device] : devices_) free.push_back(device.free);
  return potential_of(profile, free);
}

uint64_t DeviceSpace::potential_after(Profile profile, const Placement& placement) const {
  std::vector<uint64_t> free;
  for (const auto& [id, device] : devices_) {
    uint64_t bytes = device.free;
    for (const auto& [devid, offset] : placement.stripes) {
      if (devid == id) bytes -= std::min(bytes, placement.stripe_length());
    }
    free.push_back(bytes);
  }
  return potential_of(profile, free);
}

uint64_t DeviceSpace::potential_without(Profile profile, uint64_t bytes) const {
  std::vector<uint64_t> free;
  for (const auto& [id, device] : devices_) free.push_back(device.free);
  std::sort(free.begin(), free.end(), std::greater<>());
  // Level the first device with the second, then both with the third, and so on.
  for (size_t count = 1; count <= free.size() && bytes > 0; ++count) {
    const uint64_t next = count < free.size() ? free[count] : 0;
    const uint64_t taken = std::min(bytes, (free[0] - next) * count);
    const uint64_t level = free[0] - round_up(taken, count * kUnit) / count;
    std::fill_n(free.begin(), count, level);
    bytes -= taken;
  }
  return potential_of(profile, free);
}

std::optional<DeviceSpace::Placement> DeviceSpace::place(Profile profile, uint64_t length) const {
  const Layout layout = layout_of(profile);
  const unsigned copies = copies_of(profile);

  struct Candidate {
    DeviceId id;
    const DeviceState* device;
    uint64_t longest;
  };
  std::vector<Candidate> candidates;
  for (const auto& [id, device] : devices_) {
    const uint64_t longest = longest_stripe(device.gaps, layout.stripes_per_device);
    if (!device.is_in && !has_copies_on_others(profile)) continue;
    if (longest >= kUnit) candidates.push_back({id, &device, longest});
  }
  std::vector<uint64_t> longest;
  for (const Candidate& c : candidates) longest.push_back(c.longest);
  std::sort(longest.begin(), longest.end(), std::greater<>());

  // As many devices as have room for a stripe of full length. If these are too few: all devices,
  // with a stripe as long as the last of them has room for.
  const size_t max = std::min(candidates.size(), layout.devices_max) / layout.devices_multiple *
                     layout.devices_multiple;
  if (max < layout.devices_min) return std::nullopt;
  auto columns_of = [&](size_t n) { return n * layout.stripes_per_device / copies; };
  auto wanted = [&](size_t n) {
    return std::max(kUnit, round_down(length / columns_of(n), kUnit));
  };
  size_t count = max;
  while (count >= layout.devices_min && longest[count - 1] < wanted(count)) {
    count -= layout.devices_multiple;
  }
  if (count < layout.devices_min) count = max;
  const size_t columns = columns_of(count);
  const uint64_t stripe_length = std::min(wanted(count), longest[count - 1]);

  std::erase_if(candidates, [&](const Candidate& c) { return c.longest < stripe_length; });
  std::stable_sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return std::pair(a.device->is_in, a.device->free) > std::pair(b.device->is_in, b.device->free);
  });
  candidates.resize(count);
  // The first copies of all columns, and then the other copies: so each column has one on a device
  // that is in, if there are as many of these as columns.
  if (copies > 1 && layout.stripes_per_device == 1) {
    if (!candidates[columns - 1].device->is_in) return std::nullopt;
    std::vector<Candidate> by_column;
    for (size_t column = 0; column < columns; ++column) {
      for (size_t copy = 0; copy < copies; ++copy) {
        by_column.push_back(candidates[copy * columns + column]);
      }
    }
    candidates = std::move(by_column);
  }

  Placement placement{stripe_length * columns, static_cast<uint16_t>(copies), {}};
  for (const Candidate& c : candidates) {
    unsigned left = layout.stripes_per_device;
    for (const PhysicalRange& gap : c.device->gaps) {
      for (uint64_t at = 0; left > 0 && gap.length - at >= stripe_length; at += stripe_length) {
        placement.stripes.emplace_back(c.id, gap.start + at);
        --left;
      }
    }
  }
  return placement;
}

std::optional<DeviceExtent> DeviceSpace::first_extent(DeviceId device, PhysicalRange range) const {
  auto state = devices_.find(device);
  if (state == devices_.end()) return std::nullopt;
  const auto& extents = state->second.extents;
  auto at = extents.upper_bound(range.start);
  if (at != extents.begin()) --at;
  for (; at != extents.end() && at->first < range.end(); ++at) {
    const PhysicalRange extent{at->first, at->second.length};
    if (at->second.chunk && extent.overlaps(range)) {
      return DeviceExtent{at->second.chunk, at->second.stripe_index, extent};
    }
  }
  return std::nullopt;
}

uint64_t DeviceSpace::last_extent_end(DeviceId device) const {
  auto state = devices_.find(device);
  if (state == devices_.end() || state->second.extents.empty()) return 0;
  const auto& [start, extent] = *state->second.extents.rbegin();
  return start.value + extent.length;
}

}  // namespace moltfs::alloc
