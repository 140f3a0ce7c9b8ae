// SPDX-License-Identifier: MIT
// Windows in order, the cursor, and what remains.
#include "replace/walk.h"

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::replace {

Walk::Walk(std::vector<alloc::DeviceExtent> extents, PhysicalOffset from, PhysicalOffset end,
           uint64_t window_bytes, const UsedBytes& used)
    : end_(end),
      window_bytes_(std::max(round_down(window_bytes, kNodeSize), kNodeSize)),
      next_at_(from),
      started_right_(from) {
  for (alloc::DeviceExtent& where : extents) {
    if (where.range.end() <= from) continue;
    Extent extent;
    extent.share_at_start = share_of(*where.chunk, used(where.chunk->start));
    if (where.range.start < from) {
      // How much of it lies left of `from` is not known: assume the proportion.
      extent.finished_length = from - where.range.start;
      const long double done = static_cast<long double>(extent.finished_length) /
                               static_cast<long double>(where.range.length);
      extent.met_bytes = static_cast<uint64_t>(done * extent.share_at_start);
    }
    extent.where = std::move(where);
    extents_.push_back(std::move(extent));
  }
  if (extents_.empty()) {
    next_at_ = end_;
  } else {
    next_at_ = std::max(next_at_, extents_.front().where.range.start);
  }
}

uint64_t Walk::share_of(const alloc::Chunk& chunk, uint64_t used) {
  return std::min(used / chunk.columns(), chunk.stripe_length());
}

std::optional<PhysicalRange> Walk::next(uint64_t at_most) {
  if (exhausted()) return std::nullopt;
  const uint64_t size =
      std::min(window_bytes_, std::max(round_down(at_most, kNodeSize), kNodeSize));
  const PhysicalRange extent = extents_[next_extent_].where.range;
  const uint64_t within = next_at_ - extent.start;
  const uint64_t stop = std::min(round_down(within, size) + size, extent.length);
  const PhysicalRange window{next_at_, stop - within};
  in_flight_[window.start] = next_extent_;
  in_flight_bytes_ += window.length;
  started_right_ = next_at_ = window.end();
  if (stop == extent.length) {
    ++next_extent_;
    next_at_ = next_extent_ == extents_.size() ? end_ : extents_[next_extent_].where.range.start;
  }
  return window;
}

void Walk::finished(PhysicalRange window, uint64_t met_bytes, uint64_t copied_bytes) {
  auto found = in_flight_.find(window.start);
  ASSERT(found != in_flight_.end());
  Extent& extent = extents_[found->second];
  extent.finished_length += window.length;
  extent.met_bytes += met_bytes;
  in_flight_.erase(found);
  in_flight_bytes_ -= window.length;
  copied_ += copied_bytes;
  ahead_[window.start] = copied_bytes;
  while (!ahead_.empty() && ahead_.begin()->first < cursor()) {
    copied_left_ += ahead_.begin()->second;
    ahead_.erase(ahead_.begin());
  }
}

PhysicalOffset Walk::cursor() const {
  return in_flight_.empty() ? next_at_ : in_flight_.begin()->first;
}

bool Walk::complete() const {
  return exhausted() && in_flight_.empty();
}

uint64_t Walk::remaining_bytes(const UsedBytes& used) const {
  uint64_t remaining = 0;
  for (const Extent& extent : extents_) {
    const uint64_t length = extent.where.range.length - extent.finished_length;
    if (length == 0) continue;
    const alloc::Chunk& chunk = *extent.where.chunk;
    const uint64_t share = std::min(extent.share_at_start, share_of(chunk, used(chunk.start)));
    remaining += std::min(share - std::min(share, extent.met_bytes), length);
  }
  return remaining;
}

}  // namespace moltfs::replace
