// SPDX-License-Identifier: MIT
#include "alloc/base/background.h"

#include <atomic>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "test/support/catch.h"

namespace moltfs {
namespace {

using namespace std::chrono_literals;

/// A system that allows `most` threads.
class FewThreads final : public Runtime {
 public:
  explicit FewThreads(unsigned most) : left_(most) {}
  Nanoseconds now() override { return real_.now(); }
  timespec wall_clock() override { return real_.wall_clock(); }
  std::unique_ptr<WaitQueue> make_wait_queue() override { return real_.make_wait_queue(); }
  void sleep(Nanoseconds duration) override { real_.sleep(duration); }
  uint64_t random() override { return real_.random(); }
  std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) override {
    if (left_ == 0) throw std::system_error(EAGAIN, std::generic_category(), name);
    --left_;
    return real_.spawn(std::move(name), std::move(body));
  }

 private:
  RealRuntime real_;
  unsigned left_;
};

TEST_CASE("where threads are short, fewer workers do; too few are an error, and nothing is left") {
  for (const unsigned most : {0u, 1u, 4u}) {
    FewThreads runtime(most);
    CHECK_THROWS_AS(Background(runtime, 20), std::system_error);
  }
  FewThreads runtime(5);
  Background background(runtime, 20);
  std::atomic<int> done{0};
  const auto coroutine = [](Background& b, std::atomic<int>& count) -> asio::awaitable<void> {
    auto work = [&count] { ++count; };
    co_await b.blocking(std::move(work));
  };
  for (int i = 0; i < 30; ++i) background.start(coroutine(background, done));
  background.join();
  CHECK(done == 30);
}

TEST_CASE("what a body throws comes out of blocking(); what leaves a coroutine ends it alone") {
  RealRuntime runtime;
  Background background(runtime, 2);
  std::atomic<int> caught{0}, done{0};
  const auto catches = [](Background& b, std::atomic<int>& count) -> asio::awaitable<void> {
    auto body = [] { throw std::bad_alloc(); };
    try {
      co_await b.blocking(std::move(body));
    } catch (const std::bad_alloc&) {
      ++count;
    }
  };
  const auto lets_go = [](Background& b) -> asio::awaitable<void> {
    auto body = []() -> int { throw std::bad_alloc(); };
    (void)co_await b.blocking(std::move(body));
  };
  const auto works = [](Background& b, std::atomic<int>& count) -> asio::awaitable<void> {
    auto body = [&count] { ++count; };
    co_await b.blocking(std::move(body));
  };
  for (int i = 0; i < 10; ++i) {
    background.start(catches(background, caught));
    background.start(lets_go(background));
    background.start(works(background, done));
  }
  background.join();
  CHECK(caught == 10);
  CHECK(done == 10);
}

TEST_CASE("sleep lasts as long as asked, and sleepers wake in the order of their deadlines") {
  RealRuntime runtime;
  Background background(runtime, 1);
  std::vector<int> order;  // used only on the context until join()
  const auto sleeper = [](Background& b, std::vector<int>& out, int ms) -> asio::awaitable<void> {
    co_await b.sleep(Nanoseconds(ms * 1ms));
    out.push_back(ms);
  };
  const Nanoseconds before = runtime.now();
  for (const int ms : {60, 20, 40, 0}) background.start(sleeper(background, order, ms));
  background.join();
  CHECK(runtime.now() - before >= 60ms);
  CHECK(order == std::vector<int>{0, 20, 40, 60});
}

TEST_CASE("blocking work runs on workers and returns any movable result") {
  RealRuntime runtime;
  Background background(runtime, 2);
  struct Outcome {
    std::thread::id context, worker, after;
    std::string text;
    Result<int> good = Errc::io_error, bad = 1;
    bool body_gone = false, nothing_ran = false;
  } out;
  const auto coroutine = [](Background& b, Outcome& o) -> asio::awaitable<void> {
    o.context = std::this_thread::get_id();
    auto captured = std::make_shared<int>(7);
    std::weak_ptr<int> watch = captured;
    auto body = [&o, held = std::move(captured)] {
      o.worker = std::this_thread::get_id();
      return std::make_unique<std::string>(1000, static_cast<char>('0' + *held));
    };
    auto text = co_await b.blocking(std::move(body));
    o.body_gone = watch.expired();
    o.after = std::this_thread::get_id();
    o.text = *text;
    auto nothing = [&o] { o.nothing_ran = true; };
    co_await b.blocking(std::move(nothing));
    auto good = []() -> Result<int> { return 42; };
    o.good = co_await b.blocking(std::move(good));
    auto bad = []() -> Result<int> { return Error(Errc::device_gone, "pulled"); };
    o.bad = co_await b.blocking(std::move(bad));
  };
  background.start(coroutine(background, out));
  background.join();
  CHECK(out.text == std::string(1000, '7'));
  CHECK(out.worker != out.context);
  CHECK(out.after == out.context);
  CHECK(out.body_gone);
  CHECK(out.nothing_ran);
  CHECK(out.good.value() == 42);
  CHECK(out.bad.error().message() == "pulled");
}

TEST_CASE("as many bodies run at once as there are workers") {
  RealRuntime runtime;
  constexpr unsigned kWorkers = 3;
  Background background(runtime, kWorkers);
  std::mutex mutex;
  const auto all_here = runtime.make_wait_queue();
  unsigned here = 0;
  const auto coroutine = [](Background& b, std::mutex& m, WaitQueue& queue,
                            unsigned& count) -> asio::awaitable<void> {
    auto body = [&m, &queue, &count] {
      std::unique_lock lock(m);
      ++count;
      queue.notify_all();
      queue.wait(lock, [&count] { return count == kWorkers; });
    };
    co_await b.blocking(std::move(body));
  };
  for (unsigned i = 0; i < kWorkers; ++i) {
    background.start(coroutine(background, mutex, *all_here, here));
  }
  background.join();
  CHECK(here == kWorkers);
}

TEST_CASE("stop ends sleeps at once, also those that begin later") {
  RealRuntime runtime;
  const Nanoseconds before = runtime.now();
  unsigned rounds = 0;
  {
    Background background(runtime, 1);
    const auto coroutine = [](Background& b, unsigned& n) -> asio::awaitable<void> {
      while (!b.stopping()) {
        ++n;
        co_await b.sleep(Nanoseconds::max());
      }
      co_await b.sleep(std::chrono::hours(1));
      ++n;
    };
    for (int i = 0; i < 10; ++i) background.start(coroutine(background, rounds));
    runtime.sleep(5ms);
    CHECK_FALSE(background.stopping());
    background.stop();
    CHECK(background.stopping());
  }
  CHECK(rounds >= 10);
  CHECK(runtime.now() - before < 60s);
}

TEST_CASE("wake_sleepers ends only the sleeps that are under way") {
  RealRuntime runtime;
  Background background(runtime, 1);
  std::atomic<int> wakes{0};
  const auto coroutine = [](Background& b, std::atomic<int>& n) -> asio::awaitable<void> {
    co_await b.sleep(std::chrono::hours(1));
    ++n;
    co_await b.sleep(std::chrono::hours(1));
    ++n;
  };
  background.start(coroutine(background, wakes));
  while (wakes < 1) {
    background.wake_sleepers();
    runtime.sleep(1ms);
    if (wakes == 1) break;
  }
  const int after_first = wakes;
  runtime.sleep(5ms);
  CHECK(wakes == after_first);
  background.stop();
  background.join();
  CHECK(wakes == 2);
}

TEST_CASE("join waits for every coroutine, many of which sleep and block") {
  RealRuntime runtime;
  Background background(runtime, 4);
  std::atomic<unsigned> bodies{0};
  unsigned ended = 0;
  const auto coroutine = [](Background& b, std::atomic<unsigned>& n,
                            unsigned& last) -> asio::awaitable<void> {
    for (unsigned i = 0; i < 10; ++i) {
      auto body = [&n] { return ++n; };
      co_await b.blocking(std::move(body));
      co_await b.sleep(Nanoseconds(i * 1000));
    }
    ++last;
  };
  for (int i = 0; i < 300; ++i) background.start(coroutine(background, bodies, ended));
  background.join();
  CHECK(bodies == 3000);
  CHECK(ended == 300);
  background.join();
}

TEST_CASE("coroutines may start others; posted functions run on the context in order") {
  RealRuntime runtime;
  std::vector<int> order;
  {
    Background background(runtime, 1);
    const auto inner = [](Background& b, std::vector<int>& out) -> asio::awaitable<void> {
      co_await b.sleep(1ms);
      out.push_back(1);
    };
    const auto outer = [](Background& b, std::vector<int>& out,
                          decltype(inner) child) -> asio::awaitable<void> {
      b.start(child(b, out));
      co_return;
    };
    background.start(outer(background, order, inner));
    background.join();
    for (int i = 2; i < 50; ++i) background.post([&order, i] { order.push_back(i); });
  }
  REQUIRE(order.size() == 49);
  for (int i = 0; i < 49; ++i) CHECK(order[static_cast<size_t>(i)] == i + 1);
}

}  // namespace
}  // namespace moltfs
