// SPDX-License-Identifier: MIT
// How hard the copier may work.
//
//   nobody else is at work     all lanes
//   programs are at work       two lanes, short windows, and after each window a rest
//
// Programs are at work while, on the average over kSample, a good part of a request of theirs is in
// flight; and for kLinger afterwards, so that the gaps between their requests do not count as
// peace. The rest is in proportion to the work: so the copier keeps its share of the time, however
// busy they are. Where everything is slow the rests are long, where it is fast they are short:
// nothing is to be tuned. (One lane that rested twice as long as it worked took three times as long
// for the whole, and programs gained little.)
//
// A request of a program waits for what the copier has handed to the device before it: hence the
// short windows. But where a window costs a seek, short ones would do little else: there they stay
// long.
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
  /// Shorter rests would mean waking up most of the time.
  static constexpr Nanoseconds kLeastRest = std::chrono::milliseconds(1);
  static constexpr Nanoseconds kLongestRest = std::chrono::seconds(1);
  static constexpr unsigned kSharedSlots = 2;
  /// Requests in flight, on the average, from which on programs are at work.
  static constexpr double kLoad = 0.1;

  static constexpr uint64_t kShortWindow = 256 * 1024;
  /// Bytes per second from which on windows are short: less, and it is seeks that take the time.
  static constexpr double kQuick = 128.0 * (1 << 20);

  /// Before arming, so that the walk begins with a sample. `served`: Host::time_serving().
  void start(Nanoseconds now, Nanoseconds served) {
    sampled_ = now;
    served_ = served;
    shared_until_ = now;
  }
  /// True while programs are at work. Asked often: before each window.
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
  /// How long the next window may be, while programs are at work.
  uint64_t window_bytes() const { return quick_ ? kShortWindow : UINT64_MAX; }
  /// A window of `bytes` took `work`, while programs were at work.
  void worked(uint64_t bytes, Nanoseconds work) {
    const std::chrono::duration<double> seconds = work;
    quick_ = static_cast<double>(bytes) >= kQuick * seconds.count();
  }
  /// After so much work.
  static Nanoseconds rest_after(Nanoseconds work) { return std::min(work, kLongestRest); }

 private:
  Nanoseconds sampled_{}, served_{}, shared_until_{};
  bool quick_ = true;
};

}  // namespace moltfs::replace
