// SPDX-License-Identifier: MIT
// How busy programs keep a mount. One meter answers four questions:
//
//   question                                       asked by                  from
//   does a thread spin for its next request?       fs/fuse/receive.h         its last waits
//   do several threads wait for requests?          fs/fuse/receive.h         requests found waiting
//   do idle CPUs stay out of deep sleep?           fs/fuse/cpu_latency.h     requests per window
//   does the copier of a replace make way?         replace/pace.h            busy time per window
//
// The first two are answered within microseconds, from what happened last. The other two are
// answered from *samples*: whoever counts or asks after a window of 10 ms has passed takes the next
// one. Commands of a replace and requests to MNT/.moltfs are not counted.
//
// Concurrency: any thread. A thread counts in a cache line of its own, and reads two that change
// every few milliseconds.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

#include "alloc/base/runtime.h"

namespace moltfs::fs {

class RequestLoad {
 public:
  static constexpr Nanoseconds kWindow = std::chrono::milliseconds(10);

  /// Requests per window from which on they are many, and below which they are few.
  static constexpr double kMany = 32, kFew = 8;
  /// Programs are at work while so many requests are in flight on average over a window, and for
  /// kLinger after that: gaps between requests do not count as idle.
  static constexpr double kBusy = 0.1;
  static constexpr Nanoseconds kLinger = std::chrono::milliseconds(100);
  /// A wait for a request that was short. One among the last eight makes spinning worth it.
  static constexpr Nanoseconds kShortWait = std::chrono::microseconds(150);
  /// So many requests in a row that were found waiting come from more than one client. For
  /// kBacklogFor after that, several threads wait for requests.
  static constexpr unsigned kBacklog = 16;
  static constexpr Nanoseconds kBacklogFor = std::chrono::milliseconds(5);

  explicit RequestLoad(Runtime& runtime);
  RequestLoad(const RequestLoad&) = delete;
  RequestLoad& operator=(const RequestLoad&) = delete;

  Nanoseconds now() const { return runtime_.now(); }

  /// What one thread sees that takes requests. Only that thread calls it.
  class Thread {
   public:
    explicit Thread(RequestLoad& load);
    /// It has taken a request at `now`, for which it waited so long; 0: it found it waiting.
    void took_request(Nanoseconds waited, Nanoseconds now);
    /// It has handled a request of a program in the time between.
    void handled_request(Nanoseconds begun, Nanoseconds ended);
    bool spinning_pays() const { return short_waits_ != 0; }
    /// Its last kBacklog requests were all found waiting.
    bool has_backlog() const { return found_waiting_ >= kBacklog; }

   private:
    RequestLoad& load_;
    const size_t shard_;
    uint8_t short_waits_ = 0;  // of the last eight, the newest in bit 0
    unsigned found_waiting_ = 0;
  };

  /// A request of a program was handled in the time between. For those that are not a Thread.
  void count(Nanoseconds begun, Nanoseconds ended) { count_in(0, begun, ended); }

  bool has_backlog(Nanoseconds now) const {
    return now.count() < backlog_until_.load(std::memory_order_relaxed);
  }
  bool requests_are_few();
  bool programs_are_at_work();

  /// From now on `observer` is told with each sample whether requests are many. It is called by the
  /// thread that takes the sample, and must not call the RequestLoad. An empty one ends that; it is
  /// not called any more when observe() returns.
  void observe(std::function<void(bool requests_are_many)> observer);

 private:
  static constexpr size_t kShards = 32;
  struct alignas(64) Shard {
    std::atomic<uint64_t> requests{0};
    std::atomic<Nanoseconds::rep> busy{0};  // side by side, each request counts
  };
  struct Totals {
    uint64_t requests = 0;
    Nanoseconds busy{0};
  };
  void count_in(size_t shard, Nanoseconds begun, Nanoseconds ended);
  void sample(Nanoseconds now);
  Totals totals() const;

  Runtime& runtime_;
  std::array<Shard, kShards> shards_;
  std::atomic<size_t> next_shard_{0};
  alignas(64) std::atomic<Nanoseconds::rep> backlog_until_{0};
  std::atomic<Nanoseconds::rep> window_end_{0}, busy_until_{0};
  std::atomic<double> requests_per_window_{0};
  std::mutex mutex_;
  Nanoseconds window_begin_{0};  // guarded by mutex_, as all below
  Totals before_;                // at window_begin_
  std::function<void(bool)> observer_;
};

}  // namespace moltfs::fs
