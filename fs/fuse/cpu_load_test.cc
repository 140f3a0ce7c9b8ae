// SPDX-License-Identifier: MIT
// When a CPU is free.
#include "fs/fuse/cpu_load.h"

#include <fstream>
#include <thread>

#include "test/support/catch.h"
#include "test/support/scratch_device.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;
using namespace std::chrono_literals;

namespace {

/// Instead of /proc/loadavg.
struct FakeLoad {
  void set(const std::string& text) { std::ofstream(path) << text; }
  const test::ScratchDirectory directory;
  const std::string path = directory.image("loadavg", 0);
};

}  // namespace

TEST_CASE(
    "a CPU is free if no more threads want one than there are; the answer is used for a while") {
  const std::string all = std::to_string(std::thread::hardware_concurrency());
  const std::string more = std::to_string(std::thread::hardware_concurrency() + 1);
  FakeLoad load;
  load.set("9.00 9.00 9.00 " + all + "/123 4567\n");
  CpuLoad cpu_load(load.path);
  CHECK(cpu_load.has_spare(1s));
  load.set("0.00 0.00 0.00 " + more + "/123 4567\n");
  CHECK(cpu_load.has_spare(1s + CpuLoad::kValidFor - 1ns));
  CHECK_FALSE(cpu_load.has_spare(1s + CpuLoad::kValidFor));
  load.set("0.00 0.00 0.00 1/123 4567\n");
  CHECK(cpu_load.has_spare(2s));
  CHECK(cpu_load.yielded(2us, 2s));
  CHECK(cpu_load.has_spare(2s));
}

TEST_CASE(
    "no CPU is free for a while after another thread took one, nor where the load cannot be read") {
  FakeLoad load;
  load.set("0.00 0.00 0.00 1/123 4567\n");
  CpuLoad cpu_load(load.path);
  CHECK(cpu_load.has_spare(1s));
  CHECK_FALSE(cpu_load.yielded(1ms, 1s));
  CHECK_FALSE(cpu_load.has_spare(1s));
  CHECK_FALSE(cpu_load.has_spare(1s + CpuLoad::kTakenFor - 1ns));
  CHECK(cpu_load.has_spare(1s + CpuLoad::kTakenFor));

  CpuLoad blind("/nowhere");
  CHECK_FALSE(blind.has_spare(1s));
  load.set("what is this");
  CHECK_FALSE(cpu_load.has_spare(9s));
}
