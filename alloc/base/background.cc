// SPDX-License-Identifier: MIT
// The loop that drives the Asio context, its timers, and the workers beside it.
#include "alloc/base/background.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <system_error>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"

namespace moltfs {
namespace {

/// Where threads are short, fewer than asked for will do, but not fewer than these: work that waits
/// for other work must not wait for ever.
constexpr unsigned kWorkersNeeded = 4;

}  // namespace

Background::Background(Runtime& runtime, unsigned worker_count)
    : runtime_(runtime),
      loop_wake_(runtime.make_wait_queue()),
      worker_wake_(runtime.make_wait_queue()),
      idle_(runtime.make_wait_queue()) {
  ASSERT(worker_count > 0);
  try {
    tasks_.push_back(runtime_.spawn("background", [this] { loop(); }));
    for (unsigned i = 0; i < worker_count; ++i) {
      tasks_.push_back(runtime_.spawn(fmt::format("worker-{}", i), [this] { work(); }));
    }
  } catch (const std::system_error&) {
    if (tasks_.size() > std::min(worker_count, kWorkersNeeded)) return;
    end_tasks();
    throw;
  }
}

Background::~Background() {
  stop();
  join();
  end_tasks();
  // Destroying a handler that was never called posts the unwinding of its coroutine to the context.
  timers_.clear();
  jobs_.clear();
  context_.restart();
  context_.poll();
}

void Background::end_tasks() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
  }
  loop_wake_->notify_all();
  worker_wake_->notify_all();
  for (const auto& task : tasks_) task->join();
}

void Background::start(asio::awaitable<void> coroutine) {
  {
    std::lock_guard lock(mutex_);
    ++coroutines_;
  }
  const auto leave = [this] {
    std::lock_guard lock(mutex_);
    --coroutines_;
    idle_->notify_all();
  };
  const auto ended = [leave](const std::exception_ptr& exception) {
    if (exception) {
      const auto why = contain([&] { std::rethrow_exception(exception); });
      (void)contain([&] { log_error("work in the background: {}", why.error().message()); });
    }
    leave();
  };
  try {
    auto owned = std::make_shared<asio::awaitable<void>>(std::move(coroutine));
    post([this, owned, ended] { asio::co_spawn(context_, std::move(*owned), ended); });
  } catch (...) {
    leave();
    throw;
  }
}

void Background::post(std::function<void()> f) {
  asio::post(context_, std::move(f));
  std::lock_guard lock(mutex_);
  posted_ = true;
  loop_wake_->notify_one();
}

asio::awaitable<void> Background::sleep(Nanoseconds duration) {
  auto begin = [this, duration](auto handler) {
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    const Nanoseconds now = runtime_.now();
    const Nanoseconds limit = Nanoseconds::max() - now;
    add_timer(now + std::min(duration, limit), [shared] { std::move (*shared)(); });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(std::move(begin),
                                                                       asio::use_awaitable);
}

void Background::add_timer(Nanoseconds deadline, Completion fire) {
  std::lock_guard lock(mutex_);
  timers_.emplace(stopping_ ? Nanoseconds::min() : deadline, std::move(fire));
  loop_wake_->notify_one();
}

void Background::wake_sleepers() {
  std::lock_guard lock(mutex_);
  make_timers_due();
}

void Background::make_timers_due() {
  std::multimap<Nanoseconds, Completion> due;
  for (auto& [deadline, fire] : timers_) due.emplace(Nanoseconds::min(), std::move(fire));
  timers_ = std::move(due);
  loop_wake_->notify_one();
}

void Background::stop() {
  std::lock_guard lock(mutex_);
  stopping_ = true;
  make_timers_due();
}

bool Background::stopping() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

void Background::join() {
  std::unique_lock lock(mutex_);
  idle_->wait(lock, [this] { return coroutines_ == 0 && jobs_.empty() && jobs_running_ == 0; });
}

void Background::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const Nanoseconds now = runtime_.now();
    while (!timers_.empty() && timers_.begin()->first <= now) {
      asio::post(context_, std::move(timers_.begin()->second));
      timers_.erase(timers_.begin());
      posted_ = true;
    }
    if (posted_) {
      posted_ = false;
      lock.unlock();
      context_.restart();
      context_.poll();
      lock.lock();
    } else if (quit_) {
      return;
    } else if (timers_.empty()) {
      loop_wake_->wait(lock);
    } else {
      loop_wake_->wait_for(lock, timers_.begin()->first - now);
    }
  }
}

void Background::add_job(std::function<void()> job) {
  std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  worker_wake_->notify_one();
}

void Background::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    worker_wake_->wait(lock, [this] { return quit_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    ++jobs_running_;
    lock.unlock();
    job();
    job = nullptr;  // without the lock: destroying what it holds may take other locks
    lock.lock();
    --jobs_running_;
    idle_->notify_all();
  }
}

}  // namespace moltfs
