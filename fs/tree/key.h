// SPDX-License-Identifier: MIT
// Keys of items in the trees.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace moltfs::fs {

/// Ordered by object, type, offset. fs/format.h says what the three mean.
struct Key {
  uint64_t object = 0;
  uint8_t type = 0;
  uint64_t offset = 0;

  constexpr auto operator<=>(const Key&) const = default;
  static constexpr Key min() { return {}; }
  static constexpr Key max() {
    return {std::numeric_limits<uint64_t>::max(), 255, std::numeric_limits<uint64_t>::max()};
  }
  /// The smallest key greater than this one. REQUIRES: *this != max().
  constexpr Key next() const {
    if (offset != std::numeric_limits<uint64_t>::max()) return {object, type, offset + 1};
    if (type != 255) return {object, static_cast<uint8_t>(type + 1), 0};
    return {object + 1, 0, 0};
  }
};

}  // namespace moltfs::fs
