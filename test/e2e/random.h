// SPDX-License-Identifier: MIT
// Choices from a seed, the same on every machine, and bytes that identify their writer.
#pragma once

#include <cstdint>
#include <string>

namespace e2e {

inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(mix(seed)) {}
  uint64_t next() { return mix(state_++); }
  /// In [0, bound); 0 for bound 0.
  uint64_t below(uint64_t bound) { return bound == 0 ? 0 : next() % bound; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

/// What operation number `operation` writes at [offset, offset + length): never a zero byte.
inline std::string pattern(uint64_t operation, uint64_t offset, uint64_t length) {
  std::string bytes(length, '\0');
  uint64_t word = 0;
  for (uint64_t i = 0; i < length; ++i) {
    const uint64_t at = offset + i;
    if (i == 0 || at % 8 == 0) word = mix(mix(operation) ^ (at / 8));
    const auto byte = static_cast<unsigned char>(word >> (at % 8 * 8));
    bytes[i] = static_cast<char>(byte == 0 ? 1 : byte);
  }
  return bytes;
}

}  // namespace e2e
