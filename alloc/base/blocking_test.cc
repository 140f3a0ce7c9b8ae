// SPDX-License-Identifier: MIT
// RealRuntime calls the listener of the thread that blocks, and no other.
#include "alloc/base/blocking.h"

#include <thread>

#include "alloc/base/runtime.h"
#include "test/support/catch.h"

using namespace moltfs;

TEST_CASE("only the innermost listener of the blocking thread is called") {
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

TEST_CASE("waits and sleeps of RealRuntime are announced") {
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
