// SPDX-License-Identifier: MIT
// The seeded scheduler of fibers, and the Runtime that product code sees.
#include "test/sim/scheduler.h"

#include <boost/context/protected_fixedsize_stack.hpp>
#include <list>

#include "alloc/base/assert.h"
#include "alloc/base/sanitizer.h"

// AddressSanitizer has to know about every switch of stacks.
#if MOLTFS_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace moltfs::sim {

namespace {

/// Call before a switch to `stack`. `fake` takes what the sanitizer keeps for the stack that is
/// left; it is null when that stack is left for good.
void leave_stack([[maybe_unused]] void** fake, [[maybe_unused]] const StackBounds& stack) {
#if MOLTFS_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(fake, stack.bottom, stack.size);
#endif
}

/// Call first on the new stack; `from` becomes the bounds of the stack that was left.
void enter_stack([[maybe_unused]] void* fake, [[maybe_unused]] StackBounds* from) {
#if MOLTFS_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(fake, from == nullptr ? nullptr : &from->bottom,
                                  from == nullptr ? nullptr : &from->size);
#endif
}

/// Stacks with a guard page, kept for the fibers of this and later worlds: most fibers are short, and
/// a new stack costs more than their work (system calls, and a page fault for each page).
class StackPool {
 public:
  ~StackPool() {
    for (auto& stack : free_) stacks_.deallocate(stack);
  }
  boost::context::stack_context take() {
    if (free_.empty()) return stacks_.allocate();
    auto stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give_back(boost::context::stack_context& stack) {
    if (free_.size() < kMostFree) {
      free_.push_back(stack);
    } else {
      stacks_.deallocate(stack);
    }
  }

 private:
  static constexpr size_t kMostFree = 64;
  boost::context::protected_fixedsize_stack stacks_{4 * 1024 * 1024};
  std::vector<boost::context::stack_context> free_;
};

/// Stacks whose bounds are known.
struct StackAllocator {
  StackBounds* bounds;
  static StackPool& pool() {
    static thread_local StackPool stacks;
    return stacks;
  }
  boost::context::stack_context allocate() {
    auto stack = pool().take();
    *bounds = {static_cast<const char*>(stack.sp) - stack.size, stack.size};
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) {
#if MOLTFS_ADDRESS_SANITIZER
    // The outermost functions never returned and left their marks; the memory may be reused.
    __asan_unpoison_memory_region(static_cast<char*>(stack.sp) - stack.size, stack.size);
#endif
    pool().give_back(stack);
  }
};

}  // namespace

struct Scheduler::Fiber {
  uint64_t id = 0;
  std::string name;
  std::function<void()> body;
  boost::context::fiber context;
  bool done = false;
  bool blocked = false;
  bool result = false;
  std::vector<Fiber*> joiners;
  StackBounds stack;
  void* fake_stack = nullptr;  ///< AddressSanitizer's, while the fiber does not run
};

Scheduler::Scheduler(uint64_t seed) : generator_(seed) {}

Scheduler::~Scheduler() {
  // Fibers that never ended hold references into a dead world: their stacks are not unwound.
  for (auto& [id, fiber] : fibers_) {
    if (!fiber->done) fiber.release();
  }
}

void Scheduler::note(std::string_view what, uint64_t a, uint64_t b) {
  auto add = [this](uint64_t x) { trace_ = (trace_ ^ x) * 0x100000001b3; };
  for (const char c : what) add(static_cast<uint8_t>(c));
  add(a);
  add(b);
}

uint64_t Scheduler::random(uint64_t bound) {
  if (bound <= 1) return 0;
  const uint64_t value = generator_() % bound;
  note("r", bound, value);
  return value;
}

bool Scheduler::chance(double probability) {
  return static_cast<double>(random(1'000'000)) < probability * 1'000'000;
}

void Scheduler::make_ready(Fiber* fiber) {
  ready_.push_back(fiber);
}

Scheduler::Fiber* Scheduler::spawn(std::string name, std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  Fiber* raw = fiber.get();
  raw->id = next_fiber_++;
  raw->name = std::move(name);
  raw->body = std::move(body);
  raw->context = boost::context::fiber(std::allocator_arg, StackAllocator{&raw->stack},
                                       [this, raw](boost::context::fiber&& loop) {
                                         enter_stack(nullptr, &loop_stack_);
                                         loop_ = std::move(loop);
                                         try {
                                           raw->body();
                                         } catch (...) {
                                           if (!failure_) failure_ = std::current_exception();
                                         }
                                         raw->body = nullptr;
                                         raw->done = true;
                                         for (Fiber* joiner : raw->joiners) unblock(joiner, true);
                                         leave_stack(nullptr, loop_stack_);
                                         return std::move(loop_);
                                       });
  fibers_[raw->id] = std::move(fiber);
  make_ready(raw);
  return raw;
}

void Scheduler::switch_to_loop() {
  Fiber* self = current_;
  leave_stack(&self->fake_stack, loop_stack_);
  loop_ = std::move(loop_).resume();
  enter_stack(self->fake_stack, &loop_stack_);
}

void Scheduler::yield() {
  make_ready(current_);
  switch_to_loop();
}

bool Scheduler::block() {
  Fiber* self = current_;
  self->blocked = true;
  switch_to_loop();
  return self->result;
}

void Scheduler::unblock(Fiber* fiber, bool result) {
  ASSERT(fiber->blocked);
  fiber->blocked = false;
  fiber->result = result;
  // A woken thread does not run at once: sometimes other threads get far ahead of it.
  if (random(8) == 0) {
    at(now_ + Nanoseconds(random(2'000'000)), [this, fiber] { make_ready(fiber); });
  } else {
    make_ready(fiber);
  }
}

uint64_t Scheduler::at(Nanoseconds when, std::function<void()> event) {
  const uint64_t id = next_event_++;
  events_.emplace(std::make_pair(std::max(when, now_), id), std::move(event));
  event_times_[id] = std::max(when, now_);
  return id;
}

void Scheduler::cancel_event(uint64_t id) {
  const auto found = event_times_.find(id);
  if (found == event_times_.end()) return;
  events_.erase({found->second, id});
  event_times_.erase(found);
}

void Scheduler::join(Fiber* fiber) {
  if (fiber->done) return;
  fiber->joiners.push_back(current_);
  block();
}

void Scheduler::run(std::function<void()> body) {
  spawn("main", std::move(body));
  while (!failure_) {
    if (++steps_ > step_limit_) throw Deadlock("the world does not end (step limit)");
    if (!ready_.empty()) {
      const size_t index = random(ready_.size());
      Fiber* fiber = ready_[index];
      ready_[index] = ready_.back();
      ready_.pop_back();
      note("run", fiber->id);
      current_ = fiber;
      void* fake_stack = nullptr;
      leave_stack(&fake_stack, fiber->stack);
      fiber->context = std::move(fiber->context).resume();
      enter_stack(fake_stack, nullptr);
      current_ = nullptr;
      continue;
    }
    if (events_.empty()) break;
    auto first = events_.begin();
    now_ = first->first.first;
    auto event = std::move(first->second);
    event_times_.erase(first->first.second);
    events_.erase(first);
    event();
  }
  if (failure_) std::rethrow_exception(failure_);
  std::string waiting;
  for (const auto& [id, fiber] : fibers_) {
    if (!fiber->done) waiting += " " + fiber->name + "#" + std::to_string(id);
  }
  if (!waiting.empty()) throw Deadlock("deadlock; waiting:" + waiting);
}

namespace {

class SimWaitQueue final : public WaitQueue {
 public:
  explicit SimWaitQueue(Scheduler& scheduler) : scheduler_(scheduler) {}

  void wait(std::unique_lock<std::mutex>& lock) override {
    waiting_.push_back({scheduler_.current(), 0});
    lock.unlock();
    scheduler_.block();
    lock.lock();
  }

  bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds timeout) override {
    Scheduler::Fiber* self = scheduler_.current();
    const uint64_t timer = scheduler_.at(scheduler_.now() + timeout, [this, self] {
      for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
        if (it->fiber != self) continue;
        waiting_.erase(it);
        scheduler_.unblock(self, false);
        return;
      }
    });
    waiting_.push_back({self, timer});
    lock.unlock();
    const bool notified = scheduler_.block();
    lock.lock();
    return notified;
  }

  void notify_one() override {
    if (waiting_.empty()) return;
    auto it = waiting_.begin();
    std::advance(it, scheduler_.random(waiting_.size()));
    wake(it);
  }

  void notify_all() override {
    while (!waiting_.empty()) wake(waiting_.begin());
  }

 private:
  struct Waiting {
    Scheduler::Fiber* fiber;
    uint64_t timer;
  };
  void wake(std::list<Waiting>::iterator it) {
    const Waiting waiting = *it;
    waiting_.erase(it);
    if (waiting.timer != 0) scheduler_.cancel_event(waiting.timer);
    scheduler_.unblock(waiting.fiber, true);
  }

  Scheduler& scheduler_;
  std::list<Waiting> waiting_;
};

class SimTask final : public Task {
 public:
  SimTask(Scheduler& scheduler, Scheduler::Fiber* fiber) : scheduler_(scheduler), fiber_(fiber) {}
  ~SimTask() override { scheduler_.join(fiber_); }
  void join() override { scheduler_.join(fiber_); }

 private:
  Scheduler& scheduler_;
  Scheduler::Fiber* fiber_;
};

}  // namespace

timespec SimRuntime::wall_clock() {
  const auto ns = scheduler_.now().count();
  return {1'700'000'000 + ns / 1'000'000'000, ns % 1'000'000'000};
}

std::unique_ptr<WaitQueue> SimRuntime::make_wait_queue() {
  return std::make_unique<SimWaitQueue>(scheduler_);
}

void SimRuntime::sleep(Nanoseconds duration) {
  Scheduler::Fiber* self = scheduler_.current();
  scheduler_.at(scheduler_.now() + duration, [this, self] { scheduler_.unblock(self, true); });
  scheduler_.block();
}

std::unique_ptr<Task> SimRuntime::spawn(std::string name, std::function<void()> body) {
  return std::make_unique<SimTask>(scheduler_, scheduler_.spawn(std::move(name), std::move(body)));
}

uint64_t SimRuntime::random() {
  return scheduler_.random(~uint64_t{0} >> 1) ^ (scheduler_.random(~uint64_t{0} >> 1) << 1);
}

}  // namespace moltfs::sim
