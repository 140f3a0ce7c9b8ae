// SPDX-License-Identifier: MIT
// One walk of the copier over the source's device extents: which window is next, how far the walk
// has come, how much remains.
//
//   extents   [=====|=====|==]        [=====|=====|=====|=]
//   windows    done  done  in flight   done  in flight  not started
//                          ^ cursor                     ^ started right
//
// The cursor is the left edge of the first unfinished window. A window that was given up (a fault)
// stays unfinished, so the cursor never passes it.
//
// A window lies within one device extent and ends at a multiple of its size from the start of that
// extent, so it never cuts a node. Guarded by the engine's mutex.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "alloc/disk/chunk.h"

namespace moltfs::replace {

class Walk {
 public:
  /// Used bytes of a chunk (logical); Space::used_bytes.
  using UsedBytes = std::function<uint64_t(LogicalOffset chunk)>;

  /// `extents` are in ascending order. The walk begins at `from`; the cursor ends at `end`.
  Walk(std::vector<alloc::DeviceExtent> extents, PhysicalOffset from, PhysicalOffset end,
       uint64_t window_bytes, const UsedBytes& used);

  /// The next window, which is in flight from now on; nothing if none is left. It has
  /// `window_bytes` or, if that is less, `at_most` bytes (whole nodes).
  std::optional<PhysicalRange> next(uint64_t at_most = UINT64_MAX);
  /// `met_bytes`: what was allocated in the window, copied or not.
  void finished(PhysicalRange window, uint64_t met_bytes, uint64_t copied_bytes);

  PhysicalOffset cursor() const;
  PhysicalOffset started_right() const { return started_right_; }
  /// Every window was started.
  bool exhausted() const { return next_extent_ == extents_.size(); }
  /// Every window was started and finished.
  bool complete() const;
  PhysicalOffset end() const { return end_; }
  /// Bytes copied in finished windows: all, and those left of the cursor (which a commit now would
  /// make durable). A window in flight may copy up to its length.
  uint64_t copied_bytes() const { return copied_; }
  uint64_t copied_left() const { return copied_left_; }
  uint64_t in_flight_bytes() const { return in_flight_bytes_; }
  /// Estimate of the bytes that the walk will still meet: for each chunk what was used when the
  /// walk began, or is used now if that is less. Falls as windows are finished.
  uint64_t remaining_bytes(const UsedBytes& used) const;

 private:
  struct Extent {
    alloc::DeviceExtent where;
    uint64_t share_at_start = 0;  // used bytes on this stripe
    uint64_t finished_length = 0, met_bytes = 0;
  };
  static uint64_t share_of(const alloc::Chunk& chunk, uint64_t used);

  std::vector<Extent> extents_;
  const PhysicalOffset end_;
  const uint64_t window_bytes_;
  size_t next_extent_ = 0;
  PhysicalOffset next_at_;  // where the next window begins, or later
  PhysicalOffset started_right_;
  std::map<PhysicalOffset, size_t> in_flight_;  // start of window -> its extent
  std::map<PhysicalOffset, uint64_t> ahead_;    // finished, right of the cursor -> bytes copied
  uint64_t copied_ = 0, copied_left_ = 0, in_flight_bytes_ = 0;
};

}  // namespace moltfs::replace
