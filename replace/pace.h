// SPDX-License-Identifier: MIT
// How hard the copier may work.
//
//   nobody else is at work     all lanes
//   programs are at work       two lanes, and after each window a rest
//
// Programs are at work while, on the average over kSample, a good part of a request of theirs is in
// flight; and for kLinger afterwards, so that the gaps between their requests do not count as
// peace. The rest is as long as the window took: so programs wait for no more than two windows, and
// the copier keeps its share of the time, however busy they are. Where everything is slow the rests
// are long, where it is fast they are short: nothing is to be tuned. (One lane that rested twice as
// long as it worked took three times as long for the whole, and programs gained little.)
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
  static constexpr Nanoseconds kLongestRest = std::chrono::seconds(1);
  static constexpr unsigned kSharedLanes = 2;
  /// Requests in flight, on the average, from which on programs are at work.
  static constexpr double kLoad = 0.1;

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
  /// After a window that took `work`.
  static Nanoseconds rest_after(Nanoseconds work) { return std::min(work, kLongestRest); }

 private:
  Nanoseconds sampled_{}, served_{}, shared_until_{};
};

}  // namespace moltfs::replace
