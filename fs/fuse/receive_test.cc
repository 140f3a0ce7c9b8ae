// SPDX-License-Identifier: MIT
// The layout of receive buffers, and the receive threads on a socket instead of /dev/fuse.
#include "fs/fuse/receive.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <set>

#include "alloc/base/blocking.h"
#include "fs/fuse/write_opens.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;

namespace {

/// Packets keep their bounds, as requests do.
struct FakeFuseDevice {
  FakeFuseDevice() { REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0); }
  ~FakeFuseDevice() {
    close_kernel();
    close(ends[1]);
  }
  void send(uint64_t unique) {
    fuse_in_header header{};
    header.len = sizeof header;
    header.unique = unique;
    REQUIRE(write(ends[0], &header, sizeof header) == sizeof header);
  }
  void close_kernel() {
    if (ends[0] >= 0) close(ends[0]);
    ends[0] = -1;
  }
  int daemon_fd() const { return ends[1]; }

  RealRuntime runtime;
  fs::RequestLoad load{runtime};

 private:
  int ends[2];
};

uint64_t unique_of(std::span<std::byte> request) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof header);
  return header.unique;
}

template <class F>
bool eventually(F condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

}  // namespace

TEST_CASE("the payload of a write begins on a page and has room for the largest") {
  for (const size_t most : {size_t{4096}, size_t{100000}, size_t{1} << 20}) {
    ReceiveBuffer buffer(most);
    CHECK(is_aligned(buffer.data() + sizeof(fuse_in_header) + sizeof(fuse_write_in)));
    CHECK(is_aligned(buffer.data(), 8));
    CHECK(buffer.size() >= kWriteHeaderBytes + most);
    buffer.data()[0] = std::byte{1};
    buffer.data()[buffer.size() - 1] = std::byte{1};
  }
}

TEST_CASE("every request is handled once, and the end of the connection is seen") {
  FakeFuseDevice device;
  std::mutex mutex;
  std::multiset<uint64_t> seen;
  Receiver receiver(device.daemon_fd(), {2, 4, 65536}, device.load,
                    [&](std::span<std::byte> request) {
                      std::lock_guard lock(mutex);
                      seen.insert(unique_of(request));
                      return true;
                    });
  receiver.start();
  for (uint64_t i = 0; i < 500; ++i) device.send(i);
  CHECK(eventually([&] {
    std::lock_guard lock(mutex);
    return seen.size() == 500;
  }));
  CHECK(std::set<uint64_t>(seen.begin(), seen.end()).size() == 500);
  pollfd ended{receiver.ended_fd(), POLLIN, 0};
  CHECK(poll(&ended, 1, 0) == 0);
  device.close_kernel();
  CHECK(poll(&ended, 1, 5000) == 1);
  receiver.join();
}

TEST_CASE("slow requests do not delay others, until the maximum of threads is reached") {
  FakeFuseDevice device;
  std::atomic<int> inside{0}, done{0};
  std::atomic<bool> go{false};
  Receiver receiver(device.daemon_fd(), {2, 6, 65536}, device.load, [&](std::span<std::byte>) {
    ++inside;
    announce_blocking();
    while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++done;
    return true;
  });
  receiver.start();
  for (int round = 0; round < 3; ++round) {  // parked threads must come back
    inside = done = 0;
    go = false;
    for (uint64_t i = 0; i < 10; ++i) device.send(i);
    CHECK(eventually([&] { return inside == 6; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(inside == 6);
    go = true;
    CHECK(eventually([&] { return done == 10; }));
  }
}

TEST_CASE(
    "one thread handles requests that do not block, and one that blocks does not delay others") {
  FakeFuseDevice device;
  std::mutex mutex;
  std::map<uint64_t, std::thread::id> handled;
  std::atomic<bool> go{false};
  constexpr uint64_t kSlow = 1000;
  Receiver receiver(device.daemon_fd(), {2, 6, 65536}, device.load,
                    [&](std::span<std::byte> request) {
                      const uint64_t unique = unique_of(request);
                      if (unique == kSlow) {
                        announce_blocking();
                        while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
                      }
                      std::lock_guard lock(mutex);
                      handled[unique] = std::this_thread::get_id();
                      return true;
                    });
  receiver.start();
  const auto is_handled = [&](uint64_t unique) {
    std::lock_guard lock(mutex);
    return handled.contains(unique);
  };
  const auto serve = [&](uint64_t first, uint64_t last) {
    for (uint64_t i = first; i < last; ++i) {
      device.send(i);
      while (!is_handled(i)) std::this_thread::yield();
    }
  };
  serve(0, 50);  // those that waited from the start come by
  serve(50, 100);
  std::set<std::thread::id> threads;
  for (uint64_t i = 50; i < 100; ++i) threads.insert(handled[i]);
  CHECK(threads.size() == 1);

  device.send(kSlow);
  device.send(100);
  CHECK(eventually([&] { return is_handled(100); }));
  CHECK_FALSE(is_handled(kSlow));
  go = true;
  CHECK(eventually([&] { return is_handled(kSlow); }));
}

TEST_CASE("several threads handle many requests that come at once") {
  FakeFuseDevice device;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::atomic<int> done{0};
  Receiver receiver(device.daemon_fd(), {2, 6, 65536}, device.load, [&](std::span<std::byte>) {
    {
      std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
    while (std::chrono::steady_clock::now() < until) {
    }
    ++done;
    return true;
  });
  for (uint64_t i = 0; i < 200; ++i) device.send(i);
  receiver.start();
  CHECK(eventually([&] { return done == 200; }));
  CHECK(threads.size() >= 2);
}

TEST_CASE("handled requests count as load, unless the handler says that they do not") {
  FakeFuseDevice device;
  std::atomic<int> handled{0};
  std::atomic<bool> counts{false};
  Receiver receiver(device.daemon_fd(), {2, 4, 65536}, device.load, [&](std::span<std::byte>) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ++handled;
    return counts.load();
  });
  receiver.start();
  for (uint64_t i = 0; i < 20; ++i) device.send(i);
  CHECK(eventually([&] { return handled == 20; }));
  CHECK_FALSE(device.load.programs_are_at_work());
  counts = true;
  for (uint64_t i = 0; i < 20; ++i) device.send(i);
  CHECK(eventually([&] { return device.load.programs_are_at_work(); }));
}

TEST_CASE("stop ends waiting, parked and working threads") {
  FakeFuseDevice device;
  std::atomic<int> handled{0};
  Receiver receiver(device.daemon_fd(), {2, 4, 65536}, device.load, [&](std::span<std::byte>) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ++handled;
    return true;
  });
  receiver.start();
  for (uint64_t i = 0; i < 8; ++i) device.send(i);
  CHECK(eventually([&] { return handled == 8; }));
  receiver.stop();
  receiver.join();
  device.send(99);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(handled == 8);
}

TEST_CASE("an inode is open for writing while a descriptor that can write is open") {
  WriteOpens writers;
  CHECK_FALSE(writers.is_open(300));
  writers.opened(300, O_RDONLY);
  CHECK_FALSE(writers.is_open(300));
  writers.opened(300, O_RDWR);
  writers.opened(300, O_WRONLY | O_APPEND);
  writers.released(300, O_RDWR);
  CHECK(writers.is_open(300));
  CHECK_FALSE(writers.is_open(316));  // same shard
  writers.released(300, O_WRONLY | O_APPEND);
  writers.released(300, O_RDONLY);
  CHECK_FALSE(writers.is_open(300));
}
