// SPDX-License-Identifier: MIT
// How long requests of programs have taken in all: from it the copier sees how busy they are.
#pragma once

#include <atomic>

#include "alloc/base/runtime.h"

namespace moltfs::fs {

class RequestBusyTime {
 public:
  explicit RequestBusyTime(Runtime& runtime) : runtime_(runtime) {}

  /// Lives as long as one request is handled.
  class Request {
   public:
    explicit Request(RequestBusyTime& serving)
        : serving_(serving), begun_(serving.runtime_.now()) {}
    ~Request() {
      if (counts_) serving_.nanoseconds_ += (serving_.runtime_.now() - begun_).count();
    }
    void leave_out() { counts_ = false; }
    bool counts() const { return counts_; }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

   private:
    RequestBusyTime& serving_;
    const Nanoseconds begun_;
    bool counts_ = true;
  };

  /// Of requests that have ended; those that run side by side count each.
  Nanoseconds total() const { return Nanoseconds(nanoseconds_.load(std::memory_order_relaxed)); }

 private:
  Runtime& runtime_;
  std::atomic<int64_t> nanoseconds_{0};
};

}  // namespace moltfs::fs
