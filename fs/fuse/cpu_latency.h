// SPDX-License-Identifier: MIT
// Keeps idle CPUs out of deep sleep while requests follow each other closely.
//
// A program sleeps until its request is answered. If its CPU has nothing else to do, it halts, and
// waking a halted CPU takes longer than serving a small request: in a virtual machine, where the
// host has put it aside, 10 to 50 us for each request. The kernel can be asked for CPUs that wake
// sooner (/dev/cpu_dma_latency, the kernel's Documentation/power/pm_qos_interface). The price is
// power and, in a virtual machine, CPU time of the host. So we ask only from when requests are many
// until they are few (fs/mount/request_load.h). The kernel has one such limit for all CPUs, so we
// do not ask on machines with more than kMaxCpus.
//
// The request ends with its descriptor, so also when the daemon is killed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "fs/mount/request_load.h"

namespace moltfs::fs::fuse {

class CpuLatencyRequest {
 public:
  static constexpr unsigned kMaxCpus = 16;
  static constexpr const char* kDevice = "/dev/cpu_dma_latency";
  /// What the kernel takes for "no limit", in us.
  static constexpr int32_t kAnyLatency = 2'000'000'000;

  /// Observes `load` as long as it lives. It does nothing if the process may not write to `device`,
  /// which only root may. `latency_us`: the longest time in which a CPU must wake.
  explicit CpuLatencyRequest(RequestLoad& load, const std::string& device = kDevice,
                             int32_t latency_us = usual_latency_us());
  ~CpuLatencyRequest();
  CpuLatencyRequest(const CpuLatencyRequest&) = delete;
  CpuLatencyRequest& operator=(const CpuLatencyRequest&) = delete;

  /// 0, no halting at all, in a virtual machine. A real CPU wakes from its lightest sleep within
  /// 2 us. kAnyLatency where there are too many CPUs.
  static int32_t usual_latency_us();

 private:
  void sampled(bool requests_are_many);
  void run();
  void ask_for(int32_t latency_us) const;

  RequestLoad& load_;
  const int fd_;
  const int32_t latency_us_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool wanted_ = false;    // guarded by mutex_
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // none: does nothing
};

}  // namespace moltfs::fs::fuse
