// SPDX-License-Identifier: MIT
// How hard the copier of a replace may work.
//
//   no program is at work      all copy slots
//   programs are at work       two slots, short windows, and after each window a rest
//
// Host::programs_are_at_work() tells which. A rest is as long as the work before it, so the copier
// keeps its share of the time however busy programs are, on slow devices and on fast ones, and
// nothing needs tuning. (One slot that rested twice as long as it worked made the replace take
// three times as long, and programs gained little.)
//
// A request of a program waits for what the copier has sent to the device before it: hence the
// short windows. Where each window costs a seek, short windows would consist of little but seeks;
// there they stay long.
//
// Guarded by the engine's mutex.
#pragma once

#include <algorithm>
#include <cstdint>

#include "alloc/base/runtime.h"

namespace moltfs::replace {

class Pace {
 public:
  /// With shorter rests the copier would mostly wake up and sleep.
  static constexpr Nanoseconds kLeastRest = std::chrono::milliseconds(1);
  static constexpr Nanoseconds kLongestRest = std::chrono::seconds(1);
  static constexpr unsigned kSharedSlots = 2;

  static constexpr uint64_t kShortWindow = 256 * 1024;
  /// Bytes per second from which on windows are short. At less, seeks take most of the time.
  static constexpr double kQuick = 128.0 * (1 << 20);

  /// How long the next window may be, while programs are at work.
  uint64_t window_bytes() const { return quick_ ? kShortWindow : UINT64_MAX; }
  /// A window of `bytes` took `work` while programs used the filesystem.
  void worked(uint64_t bytes, Nanoseconds work) {
    const std::chrono::duration<double> seconds = work;
    quick_ = static_cast<double>(bytes) >= kQuick * seconds.count();
  }
  /// How long to rest after so much work.
  static Nanoseconds rest_after(Nanoseconds work) { return std::min(work, kLongestRest); }

 private:
  bool quick_ = true;
};

}  // namespace moltfs::replace
