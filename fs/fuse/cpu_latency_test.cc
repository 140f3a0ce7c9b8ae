// SPDX-License-Identifier: MIT
// Asking for CPUs that wake soon: from when requests are many until they are few.
#include "fs/fuse/cpu_latency.h"

#include <fstream>
#include <thread>
#include <vector>

#include "test/support/catch.h"
#include "test/support/scratch_device.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::fuse;
using namespace std::chrono_literals;

namespace {

/// Instead of /dev/cpu_dma_latency: keeps all that is written.
struct FakeLatencyDevice {
  std::vector<int32_t> requests() const {
    std::ifstream file(path, std::ios::binary);
    std::vector<int32_t> all;
    for (int32_t latency_us = 0;
         file.read(reinterpret_cast<char*>(&latency_us), sizeof latency_us);) {
      all.push_back(latency_us);
    }
    return all;
  }
  /// Waits until there are `count` of them.
  std::vector<int32_t> wait_for(size_t count) const {
    for (int tick = 0; tick < 10'000 && requests().size() < count; ++tick) {
      std::this_thread::sleep_for(1ms);
    }
    return requests();
  }
  const test::ScratchDirectory directory;
  const std::string path = directory.image("latency", 0);
};

struct Programs {
  RealRuntime runtime;
  RequestLoad load{runtime};
  void make_requests(unsigned count) {
    for (unsigned i = 0; i < count; ++i) load.count(runtime.now(), runtime.now());
  }
  /// Many in each window, until `done()`.
  template <class Done>
  void make_many(Done done) {
    for (int tick = 0; tick < 10'000 && !done(); ++tick) {
      make_requests(100);
      std::this_thread::sleep_for(1ms);
    }
  }
};

constexpr int32_t kAny = CpuLatencyRequest::kAnyLatency;

}  // namespace

TEST_CASE("CPUs are kept out of deep sleep while there are many requests, and no longer") {
  FakeLatencyDevice device;
  Programs programs;
  CpuLatencyRequest request(programs.load, device.path, 0);
  programs.make_many([&] { return !device.requests().empty(); });
  CHECK(device.wait_for(2) == std::vector<int32_t>{0, kAny});
  programs.make_many([&] { return device.requests().size() >= 3; });
  CHECK(device.wait_for(4) == std::vector<int32_t>{0, kAny, 0, kAny});
}

TEST_CASE("the latency request is kept while there are many requests") {
  FakeLatencyDevice device;
  Programs programs;
  CpuLatencyRequest request(programs.load, device.path, 2);
  programs.make_many([&] { return !device.requests().empty(); });
  const Nanoseconds until = programs.runtime.now() + 10 * RequestLoad::kWindow;
  // Without a pause: on a busy machine this thread may not run for a whole window.
  programs.make_many([&] {
    programs.make_requests(1000);
    return programs.runtime.now() >= until;
  });
  CHECK(device.requests().front() == 2);
  CHECK(device.wait_for(2).back() == kAny);
}

TEST_CASE("the end of the server ends the latency request") {
  FakeLatencyDevice device;
  Programs programs;
  {
    CpuLatencyRequest request(programs.load, device.path, 2);
    programs.make_many([&] { return !device.requests().empty(); });
  }
  CHECK(device.requests().back() == kAny);
  const size_t count = device.requests().size();
  for (int window = 0; window < 3; ++window) {
    programs.make_requests(1000);
    std::this_thread::sleep_for(RequestLoad::kWindow);
  }
  CHECK(device.requests().size() == count);
}

TEST_CASE("single FUSE requests make no latency request") {
  FakeLatencyDevice device;
  Programs programs;
  CpuLatencyRequest request(programs.load, device.path, 0);
  for (int i = 0; i < 5; ++i) {
    programs.make_requests(2);
    std::this_thread::sleep_for(2 * RequestLoad::kWindow);
  }
  CHECK(device.requests().empty());
}

TEST_CASE("without permission, or with too many CPUs, there is no latency request") {
  Programs programs;
  CpuLatencyRequest absent(programs.load, "/nowhere/at-all", 0);
  FakeLatencyDevice device;
  {
    CpuLatencyRequest large(programs.load, device.path, kAny);
    for (int window = 0; window < 3; ++window) {
      programs.make_requests(1000);
      std::this_thread::sleep_for(RequestLoad::kWindow);
    }
  }
  CHECK(device.requests().empty());
  const int32_t usual = CpuLatencyRequest::usual_latency_us();
  CHECK((usual == 0 || usual == 2 || usual == kAny));
}
