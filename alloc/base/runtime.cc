// SPDX-License-Identifier: MIT
// RealRuntime: the operating system's clocks, threads and random numbers.
#include "alloc/base/runtime.h"

#include <pthread.h>
#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

#include "alloc/base/blocking.h"
#include "alloc/base/log.h"

namespace moltfs {
namespace {

// Longer waits are cut to this, so that now() + timeout does not overflow.
constexpr Nanoseconds kLongestWait = std::chrono::hours(24 * 365);

class RealWaitQueue final : public WaitQueue {
 public:
  void wait(std::unique_lock<std::mutex>& lock) override {
    announce_blocking();
    condition_.wait(lock);
  }
  bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds timeout) override {
    announce_blocking();
    const auto status = condition_.wait_for(lock, std::min(timeout, kLongestWait));
    return status == std::cv_status::no_timeout;
  }
  void notify_one() override { condition_.notify_one(); }
  void notify_all() override { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

class RealTask final : public Task {
 public:
  explicit RealTask(std::thread thread) : thread_(std::move(thread)) {}
  ~RealTask() override { RealTask::join(); }
  void join() override {
    std::lock_guard lock(mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::mutex mutex_;  // when several threads call join(), all of them wait
  std::thread thread_;
};

// Threads that are started while this object lives block the signals that end the program. These
// signals are for the thread that waits for them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    sigemptyset(&blocked);
    for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) sigaddset(&blocked, signal);
    pthread_sigmask(SIG_BLOCK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

Nanoseconds RealRuntime::now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec);
}

timespec RealRuntime::wall_clock() {
  timespec time{};
  // The kernel takes timestamps of files from this clock, so its timestamps and ours are in order.
  clock_gettime(CLOCK_REALTIME_COARSE, &time);
  return time;
}

std::unique_ptr<WaitQueue> RealRuntime::make_wait_queue() {
  return std::make_unique<RealWaitQueue>();
}

void RealRuntime::sleep(Nanoseconds duration) {
  if (duration <= Nanoseconds::zero()) return;
  announce_blocking();
  std::this_thread::sleep_for(std::min(duration, kLongestWait));
}

/// Throws std::system_error if the system has no thread left, or not enough memory for one. Those
/// who can do without the thread catch it.
std::unique_ptr<Task> RealRuntime::spawn(std::string name, std::function<void()> body) {
  const SignalsBlocked blocked;
  try {
    return std::make_unique<RealTask>(
        std::thread([name = name.substr(0, 15), body = std::move(body)] {
          pthread_setname_np(pthread_self(), name.c_str());
          body();
        }));
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), "cannot start the thread \"" + name + "\"");
  }
}

uint64_t RealRuntime::random() {
  uint64_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
    if (errno == EINTR) continue;
    log_error("getrandom: {}", std::strerror(errno));
    std::abort();
  }
  return value;
}

}  // namespace moltfs
