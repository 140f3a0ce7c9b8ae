// SPDX-License-Identifier: MIT
// A rate: amounts over a moving window of time.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>

#include "alloc/base/runtime.h"

namespace moltfs::replace {

class Rate {
 public:
  static constexpr Nanoseconds kWindow = std::chrono::seconds(10);
  static constexpr Nanoseconds kSlot = std::chrono::milliseconds(250);

  void start(Nanoseconds now) {
    slots_.clear();
    started_ = now;
  }
  void add(Nanoseconds now, uint64_t amount) {
    if (slots_.empty() || now - slots_.back().at >= kSlot) slots_.push_back({now, 0});
    slots_.back().amount += amount;
    while (now - slots_.front().at > kWindow) slots_.pop_front();
  }
  /// Amount per second over the last kWindow, or since start() if that is shorter.
  uint64_t per_second(Nanoseconds now) const {
    uint64_t sum = 0;
    for (const Slot& slot : slots_) {
      if (now - slot.at <= kWindow) sum += slot.amount;
    }
    const Nanoseconds span = std::max(std::min(now - started_, kWindow), kSlot);
    return static_cast<uint64_t>(static_cast<long double>(sum) * 1e9L /
                                 static_cast<long double>(span.count()));
  }

 private:
  struct Slot {
    Nanoseconds at;
    uint64_t amount;
  };
  Nanoseconds started_{0};
  std::deque<Slot> slots_;
};

}  // namespace moltfs::replace
