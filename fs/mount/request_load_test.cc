// SPDX-License-Identifier: MIT
// What the meter of requests answers, and from when on.
#include "fs/mount/request_load.h"

#include <thread>
#include <vector>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace std::chrono_literals;

namespace {

/// A clock that the test sets.
class FakeRuntime final : public Runtime {
 public:
  Nanoseconds now() override { return time; }
  timespec wall_clock() override { return {}; }
  std::unique_ptr<WaitQueue> make_wait_queue() override { return nullptr; }
  void sleep(Nanoseconds duration) override { time += duration; }
  std::unique_ptr<Task> spawn(std::string, std::function<void()>) override { return nullptr; }
  uint64_t random() override { return 0; }
  Nanoseconds time = 5s;
};

struct Meter {
  FakeRuntime runtime;
  RequestLoad load{runtime};

  /// Time passes; at its end a request is counted that took `busy`.
  void pass(Nanoseconds time, Nanoseconds busy) {
    runtime.time += time;
    load.count(runtime.time - busy, runtime.time);
  }
  /// A window with so many requests passes, which are evenly distributed.
  void window_with(unsigned requests) {
    const Nanoseconds end = runtime.time + RequestLoad::kWindow;
    for (unsigned left = requests; left > 0; --left) pass((end - runtime.time) / left, 1us);
  }
};

}  // namespace

TEST_CASE("programs are at work while their requests take time, and a little longer") {
  Meter meter;
  const auto pass = [&](Nanoseconds time, Nanoseconds busy) {
    meter.runtime.time += time - busy;
    if (busy > 0ns) meter.load.count(meter.runtime.time, meter.runtime.time + busy);
    meter.runtime.time += busy;
    return meter.load.programs_are_at_work();
  };
  CHECK_FALSE(pass(10ms, 0ms));
  CHECK_FALSE(pass(10ms, 900us));  // a request now and then
  CHECK_FALSE(pass(5ms, 5ms));     // too soon to tell
  CHECK(pass(5ms, 0ms));
  CHECK(pass(50ms, 0ms));
  CHECK(pass(40ms, 5ms));
  CHECK(pass(99ms, 0ms));
  CHECK_FALSE(pass(1ms, 0ms));
  CHECK(pass(10ms, 80ms));  // many at once
}

TEST_CASE("a window that nobody looked at for long counts as a long one") {
  Meter meter;
  meter.pass(1s, 50ms);  // a twentieth of a request in flight
  CHECK_FALSE(meter.load.programs_are_at_work());
  CHECK(meter.load.requests_are_few());
}

TEST_CASE("requests are many or few by their number in a window") {
  Meter meter;
  std::vector<bool> seen;
  meter.load.observe([&](bool many) { seen.push_back(many); });
  CHECK(meter.load.requests_are_few());
  meter.window_with(31);
  CHECK(seen == std::vector<bool>{false});
  CHECK_FALSE(meter.load.requests_are_few());
  meter.window_with(32);
  CHECK(seen == std::vector<bool>{false, true});
  meter.window_with(8);
  CHECK_FALSE(meter.load.requests_are_few());
  meter.window_with(7);
  CHECK(meter.load.requests_are_few());
  CHECK(seen == std::vector<bool>{false, true, false, false});
  meter.window_with(100);
  CHECK_FALSE(meter.load.requests_are_few());
  meter.runtime.time += 10ms;  // nothing more comes
  CHECK(meter.load.requests_are_few());
  meter.load.observe({});
  meter.window_with(100);
  CHECK(seen.size() == 6);
}

TEST_CASE("a burst that is over within a window is not many requests") {
  Meter meter;
  std::vector<bool> seen;
  meter.load.observe([&](bool many) { seen.push_back(many); });
  for (int i = 0; i < 100; ++i) meter.pass(10us, 5us);
  meter.pass(1s, 5us);
  CHECK(seen == std::vector<bool>{false});
}

TEST_CASE("spinning pays after a short wait, until eight waits have been long") {
  Meter meter;
  RequestLoad::Thread thread(meter.load);
  CHECK_FALSE(thread.spinning_pays());
  thread.took_request(RequestLoad::kShortWait, 1s);
  CHECK_FALSE(thread.spinning_pays());
  thread.took_request(RequestLoad::kShortWait - 1ns, 1s);
  CHECK(thread.spinning_pays());
  for (int i = 0; i < 7; ++i) thread.took_request(1s, 1s);
  CHECK(thread.spinning_pays());
  thread.took_request(1s, 1s);
  CHECK_FALSE(thread.spinning_pays());
  thread.took_request(0s, 1s);  // found waiting: no wait at all
  CHECK(thread.spinning_pays());
}

TEST_CASE("many requests in a row that were found waiting are a backlog, for a while") {
  Meter meter;
  RequestLoad::Thread thread(meter.load), other(meter.load);
  for (unsigned i = 1; i < RequestLoad::kBacklog; ++i) thread.took_request(0s, 6s);
  CHECK_FALSE(thread.has_backlog());
  thread.took_request(1us, 6s);
  for (unsigned i = 1; i < RequestLoad::kBacklog; ++i) thread.took_request(0s, 6s);
  CHECK_FALSE(thread.has_backlog());
  CHECK_FALSE(meter.load.has_backlog(6s));
  thread.took_request(0s, 6s);
  CHECK(thread.has_backlog());
  CHECK_FALSE(other.has_backlog());
  CHECK(meter.load.has_backlog(6s));
  CHECK(meter.load.has_backlog(6s + RequestLoad::kBacklogFor - 1ns));
  CHECK_FALSE(meter.load.has_backlog(6s + RequestLoad::kBacklogFor));
  // As long as it goes on.
  const Nanoseconds later = 6s + RequestLoad::kBacklogFor - 1ns;
  thread.took_request(0s, later);
  CHECK(meter.load.has_backlog(later + RequestLoad::kBacklogFor - 1ns));
  thread.took_request(1us, later);
  CHECK_FALSE(thread.has_backlog());
}

TEST_CASE("what many threads count is added up") {
  RealRuntime runtime;
  RequestLoad load(runtime);
  std::atomic<bool> many{false};
  load.observe([&](bool is_many) { many = many || is_many; });
  const Nanoseconds until = runtime.now() + 5s;
  std::vector<std::thread> threads;
  for (int i = 0; i < 40; ++i) {  // more than there are cache lines to count in
    threads.emplace_back([&] {
      RequestLoad::Thread thread(load);
      while (!many && runtime.now() < until) {
        const Nanoseconds begun = runtime.now();
        runtime.sleep(5ms);  // one alone makes 2 in a window
        thread.handled_request(begun, runtime.now());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(many);
  CHECK(load.programs_are_at_work());
}
