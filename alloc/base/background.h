// SPDX-License-Identifier: MIT
// Coroutines that run one at a time on one Boost.Asio context, and a few workers for what blocks.
// The replace engine and the commit timer use it. It is built on Runtime alone, so that the
// simulator runs the same coroutines on virtual time.
//
// RULES for coroutines started here:
//  - Never block on the context (device I/O, WaitQueue::wait, Runtime::sleep): use blocking() and
//    sleep() instead. A lock that is only held over memory is fine.
//  - co_await only sleep(), blocking(), asio::post to the own executor, and other coroutines. Each
//    can throw std::bad_alloc. If that leaves a coroutine, it has ended, and the log says so.
//  - Give a lambda with captures a name before `co_await background.blocking(std::move(f))`: gcc 12
//    destroys a temporary twice there.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <variant>
#include <vector>

#include "alloc/base/contain.h"
#include "alloc/base/error.h"
#include "alloc/base/runtime.h"

namespace moltfs {

namespace asio = boost::asio;

class Background {
 public:
  /// `worker_count`: how many blocking() bodies may run at once. Throws std::system_error if too few
  /// threads can be started.
  Background(Runtime& runtime, unsigned worker_count);
  /// stop() and join.
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  Runtime& runtime() { return runtime_; }

  /// Starts a coroutine on the context. It must end by itself soon after stopping() becomes true.
  void start(asio::awaitable<void> coroutine);
  /// Runs `f` on the context. Callable from any task.
  void post(std::function<void()> f);

  /// Suspends the calling coroutine for `duration`, or until wake_sleepers() or stop().
  asio::awaitable<void> sleep(Nanoseconds duration);
  /// Ends at once every sleep() that is under way.
  void wake_sleepers();

  /// Runs `f`, which may block, on a worker. Then resumes the coroutine on the context with the
  /// result of `f` (any movable type, or void), or with what `f` has thrown for want of memory or
  /// threads.
  template <class F>
  asio::awaitable<std::invoke_result_t<F>> blocking(F f);

  /// Asks coroutines to end: stopping() becomes true, and sleeps end at once. Does not wait.
  void stop();
  bool stopping() const;
  /// Waits until every coroutine given to start() has ended and all work of blocking() is done.
  void join();

 private:
  using Completion = std::function<void()>;
  void loop();
  void work();
  void end_tasks();
  void add_job(std::function<void()> job);
  void add_timer(Nanoseconds deadline, Completion fire);
  void make_timers_due();  // REQUIRES: mutex_

  Runtime& runtime_;
  asio::io_context context_;

  mutable std::mutex mutex_;
  std::unique_ptr<WaitQueue> loop_wake_;    // the loop waits here for posts and timers
  std::unique_ptr<WaitQueue> worker_wake_;  // workers wait here for jobs
  std::unique_ptr<WaitQueue> idle_;         // join() waits here
  // Guarded by mutex_:
  bool stopping_ = false;
  bool quit_ = false;
  bool posted_ = false;
  unsigned coroutines_ = 0;
  std::deque<std::function<void()>> jobs_;
  unsigned jobs_running_ = 0;
  std::multimap<Nanoseconds, Completion> timers_;
  std::vector<std::unique_ptr<Task>> tasks_;
};

template <class F>
asio::awaitable<std::invoke_result_t<F>> Background::blocking(F f) {
  using R = std::invoke_result_t<F>;
  constexpr bool has_result = !std::is_void_v<R>;
  // Shared by this coroutine and the job. The job destroys the body before the coroutine resumes;
  // the result stays until the coroutine takes it.
  struct State {
    std::optional<F> body;
    std::optional<std::conditional_t<has_result, R, std::monostate>> result;
    std::exception_ptr thrown;
  };
  auto state = std::make_shared<State>();
  state->body.emplace(std::move(f));
  auto begin = [this, state](auto handler) {
    auto shared = std::make_shared<decltype(handler)>(std::move(handler));
    add_job([this, shared, state] {
      try {
        if constexpr (has_result) {
          state->result.emplace((*state->body)());
        } else {
          (*state->body)();
        }
      } catch (const std::bad_alloc&) {
        state->thrown = std::current_exception();
      } catch (const std::system_error&) {
        state->thrown = std::current_exception();
      }
      state->body.reset();
      insist(runtime_, [&] { post([shared] { std::move (*shared)(); }); });
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(std::move(begin),
                                                                       asio::use_awaitable);
  if (state->thrown) std::rethrow_exception(state->thrown);
  if constexpr (has_result) co_return std::move(*state->result);
}

}  // namespace moltfs
