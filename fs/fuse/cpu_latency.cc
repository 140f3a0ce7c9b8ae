// SPDX-License-Identifier: MIT
#include "fs/fuse/cpu_latency.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <system_error>

#include "alloc/base/log.h"

namespace moltfs::fs::fuse {
namespace {

constexpr const char* kIdleDriver = "/sys/devices/system/cpu/cpuidle/current_driver";

}  // namespace

int32_t CpuLatencyRequest::usual_latency_us() {
  if (std::thread::hardware_concurrency() > kMaxCpus) return kAnyLatency;
  std::string driver;
  std::ifstream(kIdleDriver) >> driver;
  return driver == "haltpoll" ? 0 : 2;
}

CpuLatencyRequest::CpuLatencyRequest(RequestLoad& load, const std::string& device,
                                     int32_t latency_us)
    : load_(load),
      fd_(latency_us == kAnyLatency ? -1 : ::open(device.c_str(), O_WRONLY | O_CLOEXEC)),
      latency_us_(latency_us) {
  if (fd_ < 0) return;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    log_warning("idlepoll is off: cannot start its thread: {}", error.what());
    return;
  }
  load_.observe([this](bool requests_are_many) { sampled(requests_are_many); });
}

CpuLatencyRequest::~CpuLatencyRequest() {
  if (!thread_.joinable()) {
    if (fd_ >= 0) ::close(fd_);
    return;
  }
  load_.observe({});
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  ::close(fd_);
}

void CpuLatencyRequest::sampled(bool requests_are_many) {
  if (!requests_are_many) return;
  std::lock_guard lock(mutex_);
  if (wanted_) return;
  wanted_ = true;
  wake_.notify_all();
}

void CpuLatencyRequest::run() {
  pthread_setname_np(pthread_self(), "moltfs-idle");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return wanted_ || stopping_; });
    if (stopping_) return;
    ask_for(latency_us_);
    while (!stopping_ && wanted_) {
      wake_.wait_for(lock, RequestLoad::kWindow, [this] { return stopping_; });
      lock.unlock();  // it may call sampled()
      const bool few = load_.requests_are_few();
      lock.lock();
      if (few) wanted_ = false;
    }
    ask_for(kAnyLatency);
  }
}

void CpuLatencyRequest::ask_for(int32_t latency_us) const {
  if (::write(fd_, &latency_us, sizeof latency_us) != sizeof latency_us) {
    log_warning("{}: {}", kDevice, strerror(errno));
  }
}

}  // namespace moltfs::fs::fuse
