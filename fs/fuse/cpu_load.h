// SPDX-License-Identifier: MIT
// Whether a CPU is free for a thread that only spins. Where all CPUs are wanted by others, spinning
// does harm: a thread that sleeps gets a CPU at once when it is woken, one that has just used up
// its time must wait for its turn.
#pragma once

#include <atomic>
#include <string>

#include "alloc/base/runtime.h"

namespace moltfs::fs::fuse {

/// Thread-safe.
class CpuLoad {
 public:
  /// How long an answer is used.
  static constexpr Nanoseconds kValidFor = std::chrono::milliseconds(20);
  /// A yield that took so long: the CPU was given to another thread. Then none is free for a while.
  static constexpr Nanoseconds kTaken = std::chrono::microseconds(300);
  static constexpr Nanoseconds kTakenFor = std::chrono::milliseconds(200);

  /// `path`: a file whose fourth word says how many threads run or want to ("RUNNING/ALL").
  explicit CpuLoad(const std::string& path = "/proc/loadavg");
  ~CpuLoad();
  CpuLoad(const CpuLoad&) = delete;
  CpuLoad& operator=(const CpuLoad&) = delete;

  /// No more threads want a CPU than there are CPUs. False where that cannot be read.
  bool has_spare(Nanoseconds now);
  /// The calling thread offered its CPU to others and had it back after `length`. False: another
  /// thread took it.
  bool yielded(Nanoseconds length, Nanoseconds now);

 private:
  bool read_spare() const;

  const int fd_;
  const unsigned cpus_;
  std::atomic<bool> spare_{false};
  std::atomic<Nanoseconds::rep> valid_until_{0};
};

}  // namespace moltfs::fs::fuse
