// SPDX-License-Identifier: MIT
// Tests of the copy slots: how they share the machine with programs.
#include <algorithm>

#include "replace/engine_test_util.h"
#include "replace/pace.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;

namespace {

/// Counts the windows that are copied at the same time; each takes a moment.
struct Watch {
  void enter(Runtime& runtime) {
    {
      std::lock_guard lock(mutex);
      most_at_once = std::max(most_at_once, ++now);
    }
    runtime.sleep(std::chrono::milliseconds(1));
    std::lock_guard lock(mutex);
    --now;
  }
  std::mutex mutex;
  unsigned now = 0, most_at_once = 0;
};

struct Copying : Machine {
  Copying() : Machine({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}}) {
    options.windows_in_flight = 4;
    options.window_bytes = kMiB / 4;  // enough of them, however busy the machine is
    make("mem:a");
    populate(8 * kMiB, random);
    host->on_list = [this](LogicalRange) { watch.enter(runtime); };
  }
  std::mt19937 random{23};
  Watch watch;
};

}  // namespace

TEST_CASE("while programs use the filesystem, two windows are copied at a time") {
  Copying m;
  m.host->programs_at_work = true;
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  CHECK(m.watch.most_at_once == Pace::kSharedSlots);
  CHECK(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("while the filesystem is idle, all slots copy") {
  Copying m;
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  CHECK(m.watch.most_at_once == m.options.windows_in_flight);
}
