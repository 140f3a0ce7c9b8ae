// SPDX-License-Identifier: MIT
// The historical rule, for tests only: duplicate left of the copier's cursor, and nowhere else.
// replace/README.md explains how it loses data.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "alloc/space/map.h"
#include "fs/mount/mount.h"

namespace moltfs::sim {

/// `cursor`: called for each write, with no lock held.
class DuplicateLeftOfCursor final : public alloc::DuplicationRule {
 public:
  explicit DuplicateLeftOfCursor(std::function<uint64_t()> cursor) : cursor_(std::move(cursor)) {}
  bool duplicates(PhysicalRange on_source) const override {
    return on_source.end().value <= cursor_();
  }

 private:
  std::function<uint64_t()> cursor_;
};

/// The historical cursor: the engine's, but never beyond the last device extent that the committed
/// state lists. (The engine's cursor jumps to the end of the device when the walk is over.)
inline uint64_t historical_cursor(fs::Mount& mount) {
  const auto chunks = mount.volume().space().committed_chunks();
  uint64_t end = 0;
  for (const auto& extent : alloc::device_extents(*chunks, DeviceId(1))) {
    end = std::max(end, extent.range.end().value);
  }
  return std::min(end, mount.replace().status().cursor_left.value);
}

}  // namespace moltfs::sim
