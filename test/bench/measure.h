// SPDX-License-Identifier: MIT
// Shared by the load generators of scripts/bench: clock, errors, latencies, random offsets.
#pragma once

#include <fmt/format.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace moltfs::bench {

constexpr size_t kBlockBytes = 4096;
constexpr size_t kMebibyte = 1 << 20;

/// Prints the error and errno, and ends the program.
[[noreturn]] inline void fail(const std::string& what) {
  fmt::print(stderr, "bench: {}: {}\n", what, strerror(errno));
  exit(2);
}

/// The result of a system call; ends the program if it is an error.
inline ssize_t must(ssize_t result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

/// Seconds since it was made.
class Watch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// splitmix64 by Sebastiano Vigna: small, and good enough for offsets and contents.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t end) { return next() % end; }

 private:
  uint64_t state_;
};

/// Memory that is aligned for direct I/O and filled with incompressible bytes.
class Buffer {
 public:
  explicit Buffer(size_t bytes)
      : memory_(static_cast<char*>(aligned_alloc(kBlockBytes, bytes)), free), bytes_(bytes) {
    Random random(bytes);
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
      const uint64_t word = random.next();
      memcpy(memory_.get() + at, &word, sizeof word);
    }
  }

  char* data() { return memory_.get(); }
  size_t size() const { return bytes_; }

 private:
  std::unique_ptr<char, void (*)(void*)> memory_;
  size_t bytes_;
};

/// The latency, in microseconds, below which `share` (0 to 1) of all lie. Sorts `seconds`.
inline double percentile_us(std::vector<double>& seconds, double share) {
  if (seconds.empty()) return 0;
  std::sort(seconds.begin(), seconds.end());
  const size_t index = static_cast<size_t>(share * static_cast<double>(seconds.size() - 1));
  return seconds[index] * 1e6;
}

}  // namespace moltfs::bench
