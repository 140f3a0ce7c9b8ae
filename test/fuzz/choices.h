// SPDX-License-Identifier: MIT
// Where a fuzz target takes its decisions from: a seed (the driver), or the bytes that libFuzzer
// gives.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <vector>

#include "alloc/base/buffer.h"

namespace moltfs::fuzz {

class Choices {
 public:
  /// Endless, the same for the same seed (SplitMix64: Steele, Lea, Flood, Fast splittable
  /// pseudorandom number generators, 2014).
  explicit Choices(uint64_t seed) : state_(seed) {}
  /// As long as there are bytes; zeros after that.
  explicit Choices(std::span<const uint8_t> bytes) : bytes_(bytes), is_finite_(true) {}

  uint64_t any() {
    if (is_finite_) return take(sizeof(uint64_t));
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// From 0 to `end` - 1. REQUIRES: end > 0.
  uint64_t below(uint64_t end) {
    if (!is_finite_) return any() % end;
    return take(end <= 256 ? 1 : end <= 65536 ? 2 : 8) % end;
  }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class Container>
  auto& of(Container& container) {
    return container[below(std::size(container))];
  }

  /// Further values for number(): what an image has in other fields. They must outlive this object.
  void use(std::span<const uint64_t> values) { values_ = values; }

  /// A number for a field of `bits` bits that has the value `old`: a limit, a power of two, near the
  /// old value, small, a value of another field, or anything.
  uint64_t number(unsigned bits, uint64_t old) {
    const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    const uint64_t power = uint64_t{1} << below(bits);
    switch (below(values_.empty() ? 12 : 15)) {
      case 0:
        return 0;
      case 1:
        return mask;
      case 2:
        return mask - below(4);
      case 3:
        return power;
      case 4:
        return (power - 1) & mask;
      case 5:
        return (power + 1) & mask;
      case 6:
        return (old + 1) & mask;
      case 7:
        return (old - 1) & mask;
      case 8:
        return (old ^ power) & mask;
      case 9:
        return (one_in(2) ? old + kUnits[below(std::size(kUnits))]
                          : old - kUnits[below(std::size(kUnits))]) &
               mask;
      case 10:
        return below(300) & mask;
      case 11:
        return any() & mask;
      default:
        return values_[below(values_.size())] & mask;
    }
  }

 private:
  static constexpr uint64_t kUnits[] = {
      2, 8, 256, 512, 4096, 16384, 65536, uint64_t{1} << 20, uint64_t{1} << 30};

  uint64_t take(size_t count) {
    uint64_t value = 0;
    count = std::min(count, bytes_.size());
    std::memcpy(&value, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return value;
  }

  uint64_t state_ = 0;
  std::span<const uint64_t> values_;
  std::span<const uint8_t> bytes_;
  bool is_finite_ = false;
};

}  // namespace moltfs::fuzz
