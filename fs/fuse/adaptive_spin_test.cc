// SPDX-License-Identifier: MIT
// When looking for the next request pays, and when it does harm.
#include "fs/fuse/adaptive_spin.h"

#include <fstream>
#include <thread>

#include "test/support/catch.h"
#include "test/support/scratch_device.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;
using namespace std::chrono_literals;

namespace {

/// In the place of /proc/loadavg.
struct FakeLoad {
  void set(const std::string& text) { std::ofstream(path) << text; }
  const test::ScratchDirectory directory;
  const std::string path = directory.image("loadavg", 0);
};

}  // namespace

TEST_CASE("looking pays after a short wait, until eight waits have been long") {
  AdaptiveSpin eagerness;
  CHECK_FALSE(eagerness.pays());
  eagerness.waited(10us);
  CHECK(eagerness.pays());
  for (int i = 0; i < 7; ++i) eagerness.waited(1s);
  CHECK(eagerness.pays());
  eagerness.waited(1s);
  CHECK_FALSE(eagerness.pays());
}

TEST_CASE("a CPU is to spare when no more threads want one than there are, seen now and then") {
  const std::string cpus = std::to_string(std::thread::hardware_concurrency());
  const std::string more = std::to_string(std::thread::hardware_concurrency() + 1);
  FakeLoad load;
  load.set("9.00 9.00 9.00 " + cpus + "/123 4567\n");
  CpuLoad spare(load.path);
  CHECK(spare.is_there(1s));
  load.set("0.00 0.00 0.00 " + more + "/123 4567\n");
  CHECK(spare.is_there(1s + CpuLoad::kSeenFor - 1ns));
  CHECK_FALSE(spare.is_there(1s + CpuLoad::kSeenFor));
  load.set("0.00 0.00 0.00 1/123 4567\n");
  CHECK(spare.is_there(2s));
  CHECK(spare.offered(2us, 2s));
  CHECK(spare.is_there(2s));
}

TEST_CASE("no CPU is to spare for a while after one was taken, nor where nobody can tell") {
  FakeLoad load;
  load.set("0.00 0.00 0.00 1/123 4567\n");
  CpuLoad spare(load.path);
  CHECK(spare.is_there(1s));
  CHECK_FALSE(spare.offered(1ms, 1s));
  CHECK_FALSE(spare.is_there(1s));
  CHECK_FALSE(spare.is_there(1s + CpuLoad::kTakenFor - 1ns));
  CHECK(spare.is_there(1s + CpuLoad::kTakenFor));

  CpuLoad blind("/nowhere");
  CHECK_FALSE(blind.is_there(1s));
  load.set("what is this");
  CHECK_FALSE(spare.is_there(9s));
}
