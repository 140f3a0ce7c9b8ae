// SPDX-License-Identifier: MIT
// Clocks, waiting, tasks and random numbers for everything below fs/fuse. RealRuntime uses the
// operating system; the simulator (test/sim) has a deterministic Runtime with fibers, a virtual
// clock and a seed.
//
// RULES for code that runs on both:
//  - Locks are plain std::mutex, held only over memory: never across device I/O, WaitQueue::wait
//    with another mutex, sleep() or join(). (The simulator never switches tasks while one is held.)
//  - The only ways to wait are WaitQueue, sleep(), Task::join() and device I/O (alloc/device).
//  - No std::thread, std::condition_variable, std::this_thread, std::chrono clock or
//    std::random_device outside RealRuntime and fs/fuse.
//  - Behaviour must not depend on addresses or on the order of an unordered container.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace moltfs {

using Nanoseconds = std::chrono::nanoseconds;

/// A condition variable for use with a std::mutex. Wakes may be spurious.
class WaitQueue {
 public:
  virtual ~WaitQueue() = default;
  /// REQUIRES: `lock` is held. It is released during the wait and held again on return.
  virtual void wait(std::unique_lock<std::mutex>& lock) = 0;
  /// Like wait, but returns after `timeout` at the latest. False: it timed out.
  virtual bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds timeout) = 0;
  virtual void notify_one() = 0;
  virtual void notify_all() = 0;

  template <class Predicate>
  void wait(std::unique_lock<std::mutex>& lock, Predicate ready) {
    while (!ready()) wait(lock);
  }
};

/// A thread or fiber started by Runtime::spawn. The destructor joins.
class Task {
 public:
  virtual ~Task() = default;
  /// Waits until the task's function has returned. May be called more than once.
  virtual void join() = 0;
};

class Runtime {
 public:
  virtual ~Runtime() = default;
  /// Monotonic time since an arbitrary start.
  virtual Nanoseconds now() = 0;
  /// Time of day (CLOCK_REALTIME), for timestamps of files.
  virtual timespec wall_clock() = 0;
  virtual std::unique_ptr<WaitQueue> make_wait_queue() = 0;
  virtual void sleep(Nanoseconds duration) = 0;
  /// Starts `body` as a new task. `name` is for debuggers, cut to 15 bytes.
  virtual std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) = 0;
  /// 64 random bits, for uuids and hash seeds; the simulator derives them from its seed. Thread-safe.
  virtual uint64_t random() = 0;
};

/// The operating system's clocks and threads. Thread-safe.
class RealRuntime final : public Runtime {
 public:
  Nanoseconds now() override;
  timespec wall_clock() override;
  std::unique_ptr<WaitQueue> make_wait_queue() override;
  void sleep(Nanoseconds duration) override;
  std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) override;
  uint64_t random() override;
};

}  // namespace moltfs
