// SPDX-License-Identifier: MIT
#include "fs/fuse/cpu_load.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <thread>

namespace moltfs::fs::fuse {

CpuLoad::CpuLoad(const std::string& path)
    : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), cpus_(std::thread::hardware_concurrency()) {}

CpuLoad::~CpuLoad() {
  if (fd_ >= 0) ::close(fd_);
}

bool CpuLoad::read_spare() const {
  char text[128];
  const ssize_t size = ::pread(fd_, text, sizeof text - 1, 0);
  if (size <= 0) return false;
  text[size] = '\0';
  unsigned running = 0;  // the calling thread counts
  return std::sscanf(text, "%*s %*s %*s %u/", &running) == 1 && running <= cpus_;
}

bool CpuLoad::has_spare(Nanoseconds now) {
  constexpr auto relaxed = std::memory_order_relaxed;
  if (now.count() >= valid_until_.load(relaxed)) {
    valid_until_.store((now + kValidFor).count(), relaxed);
    spare_.store(read_spare(), relaxed);
  }
  return spare_.load(relaxed);
}

bool CpuLoad::yielded(Nanoseconds length, Nanoseconds now) {
  if (length < kTaken) return true;
  constexpr auto relaxed = std::memory_order_relaxed;
  spare_.store(false, relaxed);
  valid_until_.store((now + kTakenFor).count(), relaxed);
  return false;
}

}  // namespace moltfs::fs::fuse
