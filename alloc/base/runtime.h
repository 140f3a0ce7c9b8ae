// SPDX-License-Identifier: MIT
// What everything below the FUSE front end runs on: clocks, waiting, threads of control, random
// numbers. RealRuntime is the operating system's; the simulator (test/sim) brings one that is
// deterministic: fibers, a virtual clock, a seed.
//
// RULES for code that is to run under both:
//  - Locks are plain std::mutex, held only over memory: never across device I/O, WaitQueue::wait of
//    another mutex, sleep() or join(). (Under the simulator nothing switches while one is held.)
//  - The only ways to wait are WaitQueue, sleep(), Task::join() and device I/O (alloc/device).
//  - No std::thread, std::condition_variable, std::this_thread, std::chrono clock or
//    std::random_device outside RealRuntime and the FUSE front end.
//  - No behaviour that depends on addresses or on the order of an unordered container.
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
  /// REQUIRES: `lock` is held; it is released while waiting and held again on return.
  virtual void wait(std::unique_lock<std::mutex>& lock) = 0;
  /// As wait, but returns after `timeout` at the latest; false if it was the timeout.
  virtual bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds timeout) = 0;
  virtual void notify_one() = 0;
  virtual void notify_all() = 0;

  template <class Predicate>
  void wait(std::unique_lock<std::mutex>& lock, Predicate ready) {
    while (!ready()) wait(lock);
  }
};

/// A thread of control started by Runtime::spawn. Joins when destroyed.
class Task {
 public:
  virtual ~Task() = default;
  /// Waits until its function has returned. May be called more than once.
  virtual void join() = 0;
};

class Runtime {
 public:
  virtual ~Runtime() = default;
  /// Monotonic time since some start.
  virtual Nanoseconds now() = 0;
  /// Time of day (CLOCK_REALTIME), for the times of files.
  virtual timespec wall_clock() = 0;
  virtual std::unique_ptr<WaitQueue> make_wait_queue() = 0;
  virtual void sleep(Nanoseconds duration) = 0;
  /// Starts `body` in a thread of control of its own. `name`: for logs and debuggers, <= 15 bytes.
  virtual std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) = 0;
  /// Random 64 bits (uuids, hash seeds); from the seed in the simulator. Thread-safe.
  virtual uint64_t random() = 0;
  /// A name for the calling task, stable over its life; for locks' owners and traces.
  virtual uint64_t current_task() = 0;
};

/// The operating system's clocks and threads. One object serves any number of users.
class RealRuntime final : public Runtime {
 public:
  Nanoseconds now() override;
  timespec wall_clock() override;
  std::unique_ptr<WaitQueue> make_wait_queue() override;
  void sleep(Nanoseconds duration) override;
  std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) override;
  uint64_t random() override;
  uint64_t current_task() override;
};

}  // namespace moltfs
