// SPDX-License-Identifier: MIT
// Placing the stripes of new chunks on the devices.
#include "alloc/space/device_space.h"

#include <algorithm>
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

/// What one chunk of a profile takes: `width` devices, in multiples of `multiple`.
struct Layout {
  unsigned stripes_per_device = 1;
  size_t width_min = 1, width_max = 1;
  size_t multiple = 1;
  unsigned copies = 1;

  uint64_t columns(size_t width) const { return width * stripes_per_device / copies; }
  bool has_copies_on_others() const { return copies > stripes_per_device; }
};

Layout layout_of(Profile profile) {
  const size_t needed = devices_needed(profile);
  Layout layout{1, needed, needed, 1, copies_of(profile)};
  if (profile == Profile::dup) layout.stripes_per_device = 2;
  if (profile == Profile::raid0) layout.width_max = kMaxDevices;
  if (profile == Profile::raid10) {
    layout.width_max = kMaxDevices;
    layout.multiple = 2;
  }
  return layout;
}

/// How often one unit can be taken from `width` different devices with these free units: the
/// largest N with sum(min(free, N)) >= width * N.
uint64_t rounds_of(std::vector<uint64_t> free, size_t width) {
  if (width == 0 || free.size() < width) return 0;
  std::sort(free.begin(), free.end());
  // If the j largest devices have a unit for each round, the others must give the rest.
  uint64_t rest = 0;
  for (size_t i = 0; i + width <= free.size(); ++i) rest += free[i];
  uint64_t rounds = rest;  // j = width - 1
  for (size_t from_others = 2; from_others <= width; ++from_others) {
    rest += free[free.size() - width + from_others - 1];
    rounds = std::min(rounds, rest / from_others);
  }
  return rounds;
}

/// Takes one unit from each of the `width` devices with the most free units, `rounds` times. What
/// is left on a device may be one unit too small.
void take_rounds(std::vector<uint64_t>& free, size_t width, uint64_t rounds) {
  if (free.empty() || rounds == 0) return;
  const auto taken_at = [&](uint64_t level, uint64_t units) {
    return units > level ? std::min(units - level, rounds) : 0;
  };
  // The lowest level to which the largest devices go down; each gives at most one unit a round.
  uint64_t level = 0, too_high = *std::max_element(free.begin(), free.end());
  while (too_high - level > 1) {
    const uint64_t middle = level + (too_high - level) / 2;
    uint64_t sum = 0;
    for (uint64_t units : free) sum += taken_at(middle, units);
    (sum >= width * rounds ? level : too_high) = middle;
  }
  for (uint64_t& units : free) units -= taken_at(level, units);
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
  std::vector<uint64_t> units;
  for (const auto& [id, state] : devices_) {
    const uint64_t usable = state.end - std::min(state.end, kFirstChunkOffset);
    usable_ += usable;
    units.push_back(usable / kUnit);
  }
  for (const Profile profile : kAllProfiles) {
    const size_t width = devices_needed(profile);
    usable_for_[profile] = width == 1 ? usable_ : rounds_of(units, width) * width * kUnit;
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

uint64_t DeviceSpace::unallocated_on(DeviceId device) const {
  const auto state = devices_.find(device);
  return state == devices_.end() ? 0 : state->second.free;
}

uint64_t DeviceSpace::usable_on(DeviceId device) const {
  const auto state = devices_.find(device);
  if (state == devices_.end()) return 0;
  return state->second.end - std::min(state->second.end, kFirstChunkOffset);
}

// ---- How much there is

DeviceSpace::FreeUnits DeviceSpace::free_units(
    const std::vector<std::pair<DeviceId, uint64_t>>& taken) const {
  FreeUnits units;
  for (const auto& [id, device] : devices_) {
    uint64_t free = device.free;
    for (const auto& [devid, bytes] : taken) {
      if (devid == id) free -= std::min(free, bytes);
    }
    (device.is_in ? units.in : units.out).push_back(free / kUnit);
  }
  return units;
}

uint64_t DeviceSpace::potential_of(Profile profile, const FreeUnits& free) {
  const Layout layout = layout_of(profile);
  const size_t width = layout.width_min;
  uint64_t rounds = 0;
  if (width == 1) {
    for (uint64_t units : free.in) rounds += units / layout.stripes_per_device;
  } else if (free.in.size() >= width) {
    rounds = rounds_of(free.in, width);
  } else if (layout.has_copies_on_others() && free.in.size() >= layout.columns(width)) {
    rounds = std::min(*std::min_element(free.in.begin(), free.in.end()),
                      rounds_of(free.out, width - free.in.size()));
  }
  return rounds * layout.columns(width) * kUnit;
}

uint64_t DeviceSpace::potential(Profile profile) const {
  return potential_of(profile, free_units());
}

uint64_t DeviceSpace::potential_after(Profile profile, const Placement& placement) const {
  std::vector<std::pair<DeviceId, uint64_t>> taken;
  for (const auto& [devid, offset] : placement.stripes) {
    taken.emplace_back(devid, placement.stripe_length());
  }
  return potential_of(profile, free_units(taken));
}

void DeviceSpace::take(FreeUnits& free, Profile profile, uint64_t bytes) {
  const Layout layout = layout_of(profile);
  const size_t width = layout.width_min;
  const uint64_t per_round = layout.columns(width) * kUnit;
  const uint64_t rounds = round_up(bytes, per_round) / per_round;
  if (width == 1) {
    take_rounds(free.in, 1, rounds * layout.stripes_per_device);
  } else if (free.in.size() >= width) {
    take_rounds(free.in, width, rounds);
  } else {
    const size_t from_in = free.in.size();
    take_rounds(free.in, from_in, rounds);
    take_rounds(free.out, width - from_in, rounds);
  }
}

uint64_t DeviceSpace::potential_without(Profile profile, Profile taken, uint64_t bytes) const {
  FreeUnits free = free_units();
  const Layout layout = layout_of(taken);
  uint64_t after_wide = UINT64_MAX;
  const size_t widest = free.in.size() / layout.multiple * layout.multiple;
  if (layout.width_max > layout.width_min && widest > layout.width_min) {
    FreeUnits wide = free;
    const uint64_t per_round = layout.columns(widest) * kUnit;
    const uint64_t rounds = std::min(rounds_of(wide.in, widest), bytes / per_round);
    take_rounds(wide.in, widest, rounds);
    take(wide, taken, bytes - rounds * per_round);
    after_wide = potential_of(profile, wide);
  }
  take(free, taken, bytes);
  return std::min(after_wide, potential_of(profile, free));
}

uint64_t DeviceSpace::half_length(Profile profile) const {
  const Layout layout = layout_of(profile);
  std::vector<uint64_t> free = free_units().in;
  if (free.size() < layout.width_min) return 0;
  std::sort(free.begin(), free.end(), std::greater<>());
  return free[layout.width_min - 1] / 2 / layout.stripes_per_device *
         layout.columns(layout.width_min) * kUnit;
}

std::map<DeviceId, uint64_t> DeviceSpace::left_over(Profile profile) const {
  FreeUnits free;
  for (const auto& [id, device] : devices_) free.in.push_back(device.free / kUnit);
  const size_t width = devices_needed(profile);
  const uint64_t rounds = width == 1 ? 0 : rounds_of(free.in, width);
  if (width == 1) free.in.assign(free.in.size(), 0);
  take_rounds(free.in, width, rounds);
  std::map<DeviceId, uint64_t> left;
  size_t i = 0;
  for (const auto& [id, device] : devices_) left[id] = free.in[i++] * kUnit;
  return left;
}

// ---- Placing

/// The longest stripe on each of `devices`, at most `limit` bytes, such that the other space still
/// gives as much as it can: the chunk costs no more of potential(profile) than it has.
uint64_t DeviceSpace::longest_without_loss(Profile profile, const std::vector<Candidate>& devices,
                                           uint64_t limit) const {
  const Layout layout = layout_of(profile);
  if (layout.width_min == 1) return limit;
  const uint64_t before = potential(profile);
  uint64_t fits = 0, too_long = limit / kUnit + 1;
  while (too_long - fits > 1) {
    // The full length first: it fits in most cases.
    const uint64_t units = too_long > limit / kUnit ? limit / kUnit : fits + (too_long - fits) / 2;
    std::vector<std::pair<DeviceId, uint64_t>> taken;
    for (const Candidate& c : devices) taken.emplace_back(c.id, units * kUnit);
    const uint64_t after = potential_of(profile, free_units(taken));
    const bool no_loss = after + units * kUnit * layout.columns(devices.size()) >= before;
    (no_loss ? fits : too_long) = units;
  }
  return fits * kUnit;
}

/// A chunk on all of `fixed` and on `count` of `others`: the longest one without loss, and of the
/// devices that have room for it those with the most unallocated space.
DeviceSpace::Choice DeviceSpace::choose(Profile profile, const std::vector<Candidate>& fixed,
                                        const std::vector<Candidate>& others, size_t count,
                                        uint64_t wanted) const {
  uint64_t limit = wanted;
  for (const Candidate& c : fixed) limit = std::min(limit, c.longest);
  std::vector<uint64_t> lengths = {limit};
  for (const Candidate& c : others) {
    if (c.longest < limit) lengths.push_back(c.longest);
  }
  std::sort(lengths.begin(), lengths.end(), std::greater<>());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  Choice best;
  for (const uint64_t length : lengths) {
    if (length <= best.stripe_length) break;
    std::vector<Candidate> devices = fixed;
    for (const Candidate& c : others) {
      if (devices.size() < fixed.size() + count && c.longest >= length) devices.push_back(c);
    }
    if (devices.size() < fixed.size() + count) continue;
    const uint64_t fits = longest_without_loss(profile, devices, length);
    if (fits > best.stripe_length) best = {std::move(devices), fits};
  }
  return best;
}

std::optional<DeviceSpace::Placement> DeviceSpace::place(Profile profile, uint64_t length) const {
  const Layout layout = layout_of(profile);
  std::vector<Candidate> in, out;
  size_t in_count = 0;
  for (const auto& [id, device] : devices_) {
    in_count += device.is_in ? 1 : 0;
    const uint64_t longest = longest_stripe(device.gaps, layout.stripes_per_device);
    if (longest >= kUnit) (device.is_in ? in : out).push_back({id, &device, longest});
  }
  for (auto* candidates : {&in, &out}) {
    std::stable_sort(candidates->begin(), candidates->end(),
                     [](const auto& a, const auto& b) { return a.device->free > b.device->free; });
  }
  const auto wanted = [&](size_t width) {
    return std::max(kUnit, round_down(length / layout.columns(width), kUnit));
  };
  Choice best;
  if (in_count >= layout.width_min) {
    // As wide as possible, unless a narrower chunk can be longer.
    size_t width = std::min(in.size(), layout.width_max) / layout.multiple * layout.multiple;
    for (; width >= layout.width_min; width -= layout.multiple) {
      Choice choice = choose(profile, {}, in, width, wanted(width));
      const bool is_full = choice.stripe_length == wanted(width);
      if (choice.stripe_length * layout.columns(width) >
          best.stripe_length * layout.columns(best.devices.size())) {
        best = std::move(choice);
      }
      if (is_full) break;
    }
  } else if (layout.has_copies_on_others() && in.size() == in_count &&
             in_count >= layout.columns(layout.width_min)) {
    best = choose(profile, in, out, layout.width_min - in_count, wanted(layout.width_min));
  }
  if (best.stripe_length == 0) return std::nullopt;

  // The first copies of all columns, then the second ones, and so on: so each column has a copy on
  // a device that is in.
  const uint64_t columns = layout.columns(best.devices.size());
  Placement placement{best.stripe_length * columns, static_cast<uint16_t>(layout.copies), {}};
  for (uint64_t i = 0; i < best.devices.size(); ++i) {
    const uint64_t per_column = best.devices.size() / columns;
    const Candidate& c = best.devices[i % per_column * columns + i / per_column];
    unsigned left = layout.stripes_per_device;
    for (const PhysicalRange& gap : c.device->gaps) {
      for (uint64_t at = 0; left > 0 && gap.length - at >= best.stripe_length;
           at += best.stripe_length) {
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
