// SPDX-License-Identifier: MIT
// The wish for CPUs that do not halt: made when requests are many, withdrawn when they are not.
#include "fs/fuse/cpu_latency.h"

#include <fstream>
#include <thread>
#include <vector>

#include "test/support/catch.h"
#include "test/support/scratch_device.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;
using namespace std::chrono_literals;

namespace {

/// In the place of /dev/cpu_dma_latency: keeps all that is written.
struct FakeDevice {
  std::vector<int32_t> wishes() const {
    std::ifstream file(path, std::ios::binary);
    std::vector<int32_t> all;
    for (int32_t wish = 0; file.read(reinterpret_cast<char*>(&wish), sizeof wish);) {
      all.push_back(wish);
    }
    return all;
  }
  /// Waits until there are `count` of them.
  std::vector<int32_t> wait_for(size_t count) const {
    for (int tick = 0; tick < 10'000 && wishes().size() < count; ++tick) {
      std::this_thread::sleep_for(1ms);
    }
    return wishes();
  }
  const test::ScratchDirectory directory;
  const std::string path = directory.image("latency", 0);
};

void count(CpuLatencyRequest& polling, unsigned requests) {
  for (unsigned i = 0; i < requests; ++i) polling.count_request();
}

constexpr int32_t kAny = CpuLatencyRequest::kAnyLatency;
constexpr unsigned kMany = CpuLatencyRequest::kMany;

}  // namespace

TEST_CASE("many requests in a short time ask for CPUs that do not halt, until they are over") {
  FakeDevice device;
  CpuLatencyRequest polling(device.path, 0);
  // As a busy program does. The second lot may come too late on a busy machine, not all of them.
  for (int lot = 0; lot < 1000 && device.wishes().empty(); ++lot) count(polling, kMany);
  CHECK(device.wait_for(2) == std::vector<int32_t>{0, kAny});
  for (int lot = 0; lot < 1000 && device.wishes().size() < 3; ++lot) count(polling, kMany);
  CHECK(device.wait_for(4) == std::vector<int32_t>{0, kAny, 0, kAny});
}

TEST_CASE("as long as requests are many the wish stands") {
  FakeDevice device;
  CpuLatencyRequest polling(device.path, 2);
  const auto until = std::chrono::steady_clock::now() + 10 * CpuLatencyRequest::kWindow;
  while (std::chrono::steady_clock::now() < until) count(polling, kMany);
  CHECK(device.wishes().front() == 2);
  CHECK(device.wait_for(2).back() == kAny);
}

TEST_CASE("single requests ask for nothing") {
  FakeDevice device;
  CpuLatencyRequest polling(device.path, 0);
  count(polling, 2 * kMany - 1);  // one lot, and it cannot tell how long the next takes
  std::this_thread::sleep_for(2 * CpuLatencyRequest::kWindow);
  count(polling, 1);
  std::this_thread::sleep_for(2 * CpuLatencyRequest::kWindow);
  count(polling, kMany);
  std::this_thread::sleep_for(CpuLatencyRequest::kWindow);
  CHECK(device.wishes().empty());
}

TEST_CASE("where nobody may ask, or there are too many CPUs, nothing is asked") {
  CpuLatencyRequest absent("/nowhere/at-all", 0);
  count(absent, 10 * kMany);
  FakeDevice device;
  {
    CpuLatencyRequest large(device.path, kAny);
    count(large, 10 * kMany);
    std::this_thread::sleep_for(CpuLatencyRequest::kWindow);
  }
  CHECK(device.wishes().empty());
  const int32_t usual = CpuLatencyRequest::usual_latency();
  CHECK((usual == 0 || usual == 2 || usual == kAny));
}
