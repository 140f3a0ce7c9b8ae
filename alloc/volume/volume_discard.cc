// SPDX-License-Identifier: MIT
// Discards by logical address.
#include "alloc/volume/volume_impl.h"

namespace moltfs::alloc {

bool Volume::can_discard() const {
  const auto map = impl_->mapper.current();
  return std::any_of(map->devices().begin(), map->devices().end(),
                     [](const auto& device) { return device.second->can_discard(); });
}

uint64_t Volume::discard(std::span<const LogicalRange> ranges) {
  const MapGuard guard = acquire_map();
  std::vector<IoRequest> requests;
  std::vector<bool> counts;  // of each request: a member's
  for (const LogicalRange& range : ranges) {
    const auto segments = guard.map().for_write(range);
    if (!segments) continue;
    for (const Segment& segment : segments.value()) {
      if (!segment.device->can_discard()) continue;
      requests.push_back(
          IoRequest::make_discard(segment.device, segment.offset.value, segment.length));
      counts.push_back(!segment.to_target);
    }
  }
  impl_->engine.run(requests);
  uint64_t bytes = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result && counts[i]) bytes += requests[i].length;
  }
  return bytes;
}

}  // namespace moltfs::alloc
