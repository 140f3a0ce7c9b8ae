// SPDX-License-Identifier: MIT
// The wish for CPUs that are back soon, made and withdrawn.
#include "fs/fuse/cpu_latency.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "alloc/base/log.h"

namespace moltfs::fs::fuse {
namespace {

constexpr const char* kIdleDriver = "/sys/devices/system/cpu/cpuidle/current_driver";

}  // namespace

int32_t CpuLatencyRequest::usual_latency() {
  if (std::thread::hardware_concurrency() > kMaxCpus) return kAnyLatency;
  std::string driver;
  std::ifstream(kIdleDriver) >> driver;
  return driver == "haltpoll" ? 0 : 2;
}

CpuLatencyRequest::CpuLatencyRequest(const std::string& device, int32_t latency)
    : fd_(latency == kAnyLatency ? -1 : ::open(device.c_str(), O_WRONLY | O_CLOEXEC)),
      latency_(latency) {
  if (fd_ >= 0) thread_ = std::thread([this] { run(); });
}

CpuLatencyRequest::~CpuLatencyRequest() {
  if (thread_.joinable()) {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  if (fd_ >= 0) close(fd_);
}

void CpuLatencyRequest::count_many() {
  if (asked_.load(std::memory_order_relaxed)) return;
  const Nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
  std::lock_guard lock(mutex_);
  if (many_at_ != Nanoseconds::min() && now - many_at_ <= kWindow) {
    asked_ = true;
    wake_.notify_all();
  }
  many_at_ = now;
}

void CpuLatencyRequest::run() {
  pthread_setname_np(pthread_self(), "moltfs-idle");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return asked_ || stopping_; });
    if (stopping_) return;
    ask_for(latency_);
    for (uint32_t seen = requests_;;) {
      if (wake_.wait_for(lock, kWindow, [this] { return stopping_; })) break;
      const uint32_t now = requests_;
      if (now - seen < kFew) break;
      seen = now;
    }
    ask_for(kAnyLatency);
    asked_ = false;
  }
}

void CpuLatencyRequest::ask_for(int32_t latency) const {
  if (::write(fd_, &latency, sizeof latency) != sizeof latency) {
    log_warning("{}: {}", kDevice, strerror(errno));
  }
}

}  // namespace moltfs::fs::fuse
