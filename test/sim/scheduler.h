// SPDX-License-Identifier: MIT
// The deterministic world: one thread, many fibers, a seed.
//
// Exactly one task runs at a time. It gives up the processor only where product code may wait:
// device I/O, WaitQueue, sleep, join (alloc/base/runtime.h). Then the seed picks which of the ready
// tasks runs next. When no task is ready, the virtual clock jumps to the next event (an I/O
// completion, a timer). If there is no event either, the world is deadlocked: an exception with the
// names of the blocked tasks is thrown.
//
// Every choice and every event goes into a running hash, the trace: same seed, same trace.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/runtime.h"

namespace moltfs::sim {

struct Deadlock : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct StackBounds {
  const void* bottom = nullptr;
  size_t size = 0;
};

class Scheduler {
 public:
  explicit Scheduler(uint64_t seed);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  struct Fiber;

  /// Runs `body` as the first task, and the world until every task has ended. An exception of any
  /// task ends the world and is thrown from here. Tasks that had not ended are then leaked, because
  /// their stacks cannot be unwound safely: the process should report and exit.
  void run(std::function<void()> body);

  // ---- For tasks.
  Fiber* spawn(std::string name, std::function<void()> body);
  void join(Fiber* fiber);
  Fiber* current() { return current_; }
  /// Lets other tasks run; stays ready.
  void yield();
  /// Waits until unblock(). Returns the value given to unblock().
  bool block();
  /// REQUIRES: `fiber` is blocked. May delay the wake a little, by the seed.
  void unblock(Fiber* fiber, bool result);
  /// Runs `event` (outside all tasks; it must not wait) at virtual time `when`.
  uint64_t at(Nanoseconds when, std::function<void()> event);
  void cancel_event(uint64_t id);

  Nanoseconds now() const { return now_; }
  /// A number in [0, bound). Part of the trace.
  uint64_t random(uint64_t bound);
  bool chance(double probability);

  void note(std::string_view what, uint64_t a = 0, uint64_t b = 0);
  uint64_t trace() const { return trace_; }
  uint64_t steps() const { return steps_; }
  /// Ends the world with an exception after so many steps (a live lock).
  void set_step_limit(uint64_t steps) { step_limit_ = steps; }

 private:
  void switch_to_loop();
  void make_ready(Fiber* fiber);

  std::mt19937_64 generator_;
  Nanoseconds now_{0};
  uint64_t trace_ = 0xcbf29ce484222325;
  uint64_t steps_ = 0, step_limit_ = 50'000'000, next_event_ = 1, next_fiber_ = 1;
  std::map<std::pair<Nanoseconds, uint64_t>, std::function<void()>> events_;
  std::map<uint64_t, Nanoseconds> event_times_;
  std::vector<Fiber*> ready_;
  std::map<uint64_t, std::unique_ptr<Fiber>> fibers_;
  Fiber* current_ = nullptr;
  boost::context::fiber loop_;
  StackBounds loop_stack_;
  std::exception_ptr failure_;
};

/// The Runtime over it.
class SimRuntime final : public Runtime {
 public:
  explicit SimRuntime(Scheduler& scheduler) : scheduler_(scheduler) {}
  Nanoseconds now() override { return scheduler_.now(); }
  timespec wall_clock() override;
  std::unique_ptr<WaitQueue> make_wait_queue() override;
  void sleep(Nanoseconds duration) override;
  std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) override;
  uint64_t random() override;
  Scheduler& scheduler() { return scheduler_; }

 private:
  Scheduler& scheduler_;
};

}  // namespace moltfs::sim
