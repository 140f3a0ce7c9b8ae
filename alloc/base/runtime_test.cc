// SPDX-License-Identifier: MIT
#include "alloc/base/runtime.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <set>
#include <vector>

#include "test/support/catch.h"

namespace moltfs {
namespace {

using namespace std::chrono_literals;

TEST_CASE("clocks advance, and sleep lasts as long as asked") {
  RealRuntime runtime;
  const Nanoseconds before = runtime.now();
  runtime.sleep(5ms);
  CHECK(runtime.now() - before >= 5ms);
  runtime.sleep(-1ms);
  CHECK(runtime.wall_clock().tv_sec > 1'500'000'000);
}

TEST_CASE("a wait ends with a notification or a timeout") {
  RealRuntime runtime;
  std::mutex mutex;
  bool ready = false;
  const auto queue = runtime.make_wait_queue();

  std::unique_lock lock(mutex);
  const Nanoseconds before = runtime.now();
  while (queue->wait_for(lock, 5ms)) continue;  // spurious wakeups
  CHECK(runtime.now() - before >= 5ms);
  CHECK(lock.owns_lock());

  const auto task = runtime.spawn("waker", [&] {
    std::lock_guard held(mutex);
    ready = true;
    queue->notify_all();
  });
  queue->wait(lock, [&] { return ready; });
  while (ready && queue->wait_for(lock, Nanoseconds::zero())) continue;

  ready = false;
  const auto second = runtime.spawn("waker", [&] {
    std::lock_guard held(mutex);
    ready = true;
    queue->notify_one();
  });
  while (!ready) CHECK(queue->wait_for(lock, Nanoseconds::max()));
}

TEST_CASE("tasks run, have names, and can be joined more than once") {
  RealRuntime runtime;
  std::atomic<int> done{0};
  std::string name;
  bool term_blocked = false;
  const auto task = runtime.spawn("a name that is too long", [&] {
    char buffer[16] = {};
    pthread_getname_np(pthread_self(), buffer, sizeof buffer);
    name = buffer;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    term_blocked = sigismember(&mask, SIGTERM) == 1;
    ++done;
  });
  task->join();
  task->join();
  CHECK(done == 1);
  CHECK(name == "a name that is ");
  CHECK(term_blocked);
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  CHECK(sigismember(&mask, SIGTERM) == 0);
  {
    const auto other = runtime.spawn("joined", [&] { ++done; });
  }
  CHECK(done == 2);
}

TEST_CASE("random numbers differ") {
  RealRuntime runtime;
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(runtime.random());
  CHECK(seen.size() == 1000);
}

}  // namespace
}  // namespace moltfs
