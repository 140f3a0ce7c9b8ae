// SPDX-License-Identifier: MIT
// How hard the copier may work.
//
//   the filesystem is idle    all copy slots
//   programs use it           two slots, short windows, and after each window a rest
//
// Programs count as using the filesystem while, averaged over kSample, at least kLoad of their
// requests are in flight, and for kLinger afterwards, so that the gaps between their requests do
// not count as idle. The rest is as long as the work, so the copier keeps its share of the time
// however busy programs are. On slow devices the rests are long, on fast ones short; nothing needs
// tuning. (One slot that rested twice as long as it worked took three times as long in total, and
// programs gained little.)
//
// A request of a program waits for what the copier has sent to the device before it: hence the
// short windows. On a device where each window costs a seek, short windows would cost mostly seeks:
// there they stay long.
//
// Guarded by the engine's mutex.
#pragma once

#include <algorithm>

#include "alloc/base/runtime.h"

namespace moltfs::replace {

class Pace {
 public:
  static constexpr Nanoseconds kSample = std::chrono::milliseconds(10);
  static constexpr Nanoseconds kLinger = std::chrono::milliseconds(100);
  /// Shorter rests are saved up: they would mostly cost wake-ups.
  static constexpr Nanoseconds kLeastRest = std::chrono::milliseconds(1);
  static constexpr Nanoseconds kLongestRest = std::chrono::seconds(1);
  static constexpr unsigned kSharedSlots = 2;
  /// Average number of requests in flight from which on programs count as using the filesystem.
  static constexpr double kLoad = 0.1;

  static constexpr uint64_t kShortWindow = 256 * 1024;
  /// Bytes per second from which on windows are short. Below, most of the time goes into seeks.
  static constexpr double kQuick = 128.0 * (1 << 20);

  /// Before arming, so that the walk begins with a sample. `served`: Host::time_serving().
  void start(Nanoseconds now, Nanoseconds served) {
    sampled_ = now;
    served_ = served;
    shared_until_ = now;
  }
  /// True while programs use the filesystem. Call it often: before each window.
  bool shared(Nanoseconds now, Nanoseconds served) {
    const Nanoseconds passed = now - sampled_;
    if (passed >= kSample) {
      const auto load =
          static_cast<double>((served - served_).count()) / static_cast<double>(passed.count());
      if (load >= kLoad) shared_until_ = now + kLinger;
      sampled_ = now;
      served_ = served;
    }
    return now < shared_until_;
  }
  /// How long the next window may be while programs use the filesystem.
  uint64_t window_bytes() const { return quick_ ? kShortWindow : UINT64_MAX; }
  /// A window of `bytes` took `work` while programs used the filesystem.
  void worked(uint64_t bytes, Nanoseconds work) {
    const std::chrono::duration<double> seconds = work;
    quick_ = static_cast<double>(bytes) >= kQuick * seconds.count();
  }
  /// How long to rest after so much work.
  static Nanoseconds rest_after(Nanoseconds work) { return std::min(work, kLongestRest); }

 private:
  Nanoseconds sampled_{}, served_{}, shared_until_{};
  bool quick_ = true;
};

}  // namespace moltfs::replace
