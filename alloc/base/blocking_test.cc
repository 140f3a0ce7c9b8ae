// SPDX-License-Identifier: MIT
// Whoever blocks in RealRuntime says so to the listener of its thread, and to no other.
#include "alloc/base/blocking.h"

#include <thread>

#include "alloc/base/runtime.h"
#include "test/support/catch.h"

using namespace moltfs;

TEST_CASE("a listener hears of its own thread only, and the innermost of them alone") {
  int outer = 0, inner = 0;
  announce_blocking();
  {
    const BlockingListener first([&] { ++outer; });
    announce_blocking();
    {
      const BlockingListener second([&] { ++inner; });
      announce_blocking();
      std::thread([] { announce_blocking(); }).join();
    }
    announce_blocking();
  }
  announce_blocking();
  CHECK(outer == 2);
  CHECK(inner == 1);
}

TEST_CASE("waits and sleeps of the real runtime are announced") {
  RealRuntime runtime;
  const auto queue = runtime.make_wait_queue();
  std::mutex mutex;
  int heard = 0;
  const BlockingListener listener([&] { ++heard; });
  runtime.sleep(std::chrono::microseconds(1));
  CHECK(heard == 1);
  std::unique_lock lock(mutex);
  queue->wait_for(lock, std::chrono::microseconds(1));
  CHECK(heard == 2);
  lock.unlock();
  bool ready = false;
  const auto task = runtime.spawn("waker", [&] {
    std::lock_guard guard(mutex);
    ready = true;
    queue->notify_all();
  });
  lock.lock();
  while (!ready) queue->wait(lock);
  CHECK(heard >= 2);
}
