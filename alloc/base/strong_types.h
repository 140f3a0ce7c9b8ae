// SPDX-License-Identifier: MIT
// The small strong types and constants that all layers share.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace moltfs {

/// A 64-bit number that cannot be mixed up with other kinds of numbers. A plain count of bytes or
/// steps can be added or subtracted; the difference of two is a plain number.
template <class Tag>
struct Strong {
  uint64_t value = 0;

  constexpr Strong() = default;
  constexpr explicit Strong(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Strong&) const = default;

  constexpr Strong operator+(uint64_t n) const { return Strong(value + n); }
  constexpr Strong operator-(uint64_t n) const { return Strong(value - n); }
  constexpr uint64_t operator-(Strong other) const { return value - other.value; }
  constexpr Strong& operator+=(uint64_t n) {
    value += n;
    return *this;
  }
  constexpr Strong& operator++() {
    ++value;
    return *this;
  }
};

using DeviceId = Strong<struct DeviceIdTag>;      ///< position of a device in the volume, from 1
using Generation = Strong<struct GenerationTag>;  ///< number of a transaction, from 1
using InodeNumber = Strong<struct InodeNumberTag>;
using LogicalOffset = Strong<struct LogicalOffsetTag>;    ///< bytes, in the volume's address space
using PhysicalOffset = Strong<struct PhysicalOffsetTag>;  ///< bytes, on one device

/// Unit of data allocation, of data checksums and of all device I/O, in bytes.
inline constexpr uint64_t kBlockSize = 4096;
/// Size of a tree node in bytes.
inline constexpr uint64_t kNodeSize = 16384;

constexpr uint64_t round_up(uint64_t n, uint64_t unit) {
  return (n + unit - 1) / unit * unit;
}
constexpr uint64_t round_down(uint64_t n, uint64_t unit) {
  return n / unit * unit;
}

/// A range of logical bytes, [start, start + length).
struct LogicalRange {
  LogicalOffset start;
  uint64_t length = 0;
  LogicalOffset end() const { return start + length; }
  bool overlaps(const LogicalRange& o) const { return start < o.end() && o.start < end(); }
  bool operator==(const LogicalRange&) const = default;
};

/// A range of bytes on one device, [start, start + length).
struct PhysicalRange {
  PhysicalOffset start;
  uint64_t length = 0;
  PhysicalOffset end() const { return start + length; }
  bool overlaps(const PhysicalRange& o) const { return start < o.end() && o.start < end(); }
  bool operator==(const PhysicalRange&) const = default;
};

}  // namespace moltfs

template <class Tag>
struct std::hash<moltfs::Strong<Tag>> {
  size_t operator()(const moltfs::Strong<Tag>& s) const noexcept {
    return std::hash<uint64_t>{}(s.value);
  }
};
