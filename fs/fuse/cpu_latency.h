// SPDX-License-Identifier: MIT
// Idle CPUs that look for work instead of halting, while requests follow each other closely.
//
// A program sleeps until its request is answered. Its CPU, with nothing else to do, halts; and to
// wake a halted CPU takes longer than to serve a small request: in a virtual machine, where the
// host has put it aside, 10 to 50 us, for each request of a program. The kernel can be asked for
// CPUs that are back sooner (/dev/cpu_dma_latency, the kernel's Documentation/power/
// pm_qos_interface). The price is power and, in a virtual machine, time of the host's CPUs. So we
// ask only while requests are many:
//   from when kMany have come within kWindow, until fewer than kFew come in one.
// The kernel knows one such wish for all CPUs: where there are more than kMaxCpus we have none.
// It ends with the descriptor, thus with the daemon, in whatever way that ends.
//
// Concurrency: any thread counts; a thread of its own asks.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "alloc/base/runtime.h"

namespace moltfs::fs::fuse {

class CpuLatencyRequest {
 public:
  static constexpr unsigned kMany = 32;
  static constexpr unsigned kFew = 8;
  static constexpr Nanoseconds kWindow = std::chrono::milliseconds(10);
  static constexpr unsigned kMaxCpus = 16;
  static constexpr const char* kDevice = "/dev/cpu_dma_latency";
  /// What the kernel takes for "no wish", in us.
  static constexpr int32_t kAnyLatency = 2'000'000'000;

  /// Without the right to write to `device` (root's) it does nothing. `latency`: the longest time,
  /// in us, in which a CPU may come back.
  explicit CpuLatencyRequest(const std::string& device = kDevice,
                             int32_t latency = usual_latency());
  ~CpuLatencyRequest();
  CpuLatencyRequest(const CpuLatencyRequest&) = delete;
  CpuLatencyRequest& operator=(const CpuLatencyRequest&) = delete;

  void count_request() {
    if (thread_.joinable() &&
        (requests_.fetch_add(1, std::memory_order_relaxed) + 1) % kMany == 0) {
      count_many();
    }
  }

  /// 0, no halting at all, for the guest of a hypervisor. A CPU of metal is back from the lightest
  /// of its sleeps within 2 us. kAnyLatency where there are too many CPUs.
  static int32_t usual_latency();

 private:
  void count_many();
  void run();
  void ask_for(int32_t latency) const;

  const int fd_;
  const int32_t latency_;
  std::atomic<uint32_t> requests_{0};
  std::atomic<bool> asked_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  Nanoseconds many_at_{Nanoseconds::min()};  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::thread thread_;                       // none: does nothing
};

}  // namespace moltfs::fs::fuse
