// SPDX-License-Identifier: MIT
// Whether a thread that has nothing to do looks for the next request again and again for a while,
// or sleeps at once. A sleeping thread must be woken, and between two CPUs (of a virtual machine
// above all) that costs several times what a small request does: a whole request takes 60 us where
// client and daemon are on different CPUs, and 20 if nobody has to be woken to take it.
//
// Looking pays when requests follow each other closely (AdaptiveSpin), and does harm where the CPU is
// wanted by others (CpuLoad): on a busy machine a thread that is woken gets it at once, one that
// gave it up waits for its turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "alloc/base/runtime.h"

namespace moltfs::fs::fuse {

/// Of one thread: how long it waited for its last requests.
class AdaptiveSpin {
 public:
  static constexpr Nanoseconds kLook = std::chrono::microseconds(60);    ///< before sleeping
  static constexpr Nanoseconds kShort = std::chrono::microseconds(150);  ///< of a wait

  /// One of the last eight waits was short.
  bool pays() const { return recent_ != 0; }
  /// A request came after a wait of this length, by looking or by sleeping.
  void waited(Nanoseconds length) {
    recent_ = static_cast<uint8_t>(recent_ << 1 | (length < kShort ? 1 : 0));
  }

 private:
  uint8_t recent_ = 0;  // the newest in bit 0; set: short
};

/// Whether the machine has a CPU for everybody who wants one, as seen now and then. Thread-safe.
class CpuLoad {
 public:
  static constexpr Nanoseconds kSeenFor = std::chrono::milliseconds(20);
  /// A look that took so long: the CPU was given to others.
  static constexpr Nanoseconds kTaken = std::chrono::microseconds(300);
  static constexpr Nanoseconds kTakenFor = std::chrono::milliseconds(200);

  /// `path`: what says in its fourth word how many threads run or want to ("RUNNING/ALL").
  explicit CpuLoad(const std::string& path = "/proc/loadavg");
  ~CpuLoad();
  CpuLoad(const CpuLoad&) = delete;
  CpuLoad& operator=(const CpuLoad&) = delete;

  bool is_there(Nanoseconds now);
  /// A look, in which the CPU was offered to others, took so long; false: it was taken.
  bool offered(Nanoseconds length, Nanoseconds now);

 private:
  bool see() const;

  const int fd_;
  const unsigned cpus_;
  std::atomic<bool> spare_{false};
  std::atomic<Nanoseconds::rep> valid_until_{0};
};

}  // namespace moltfs::fs::fuse
