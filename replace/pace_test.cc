// SPDX-License-Identifier: MIT
// How long windows and rests are.
#include "replace/pace.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace std::chrono_literals;

TEST_CASE("windows are short while programs are at work, except where each costs a seek") {
  Pace pace;
  CHECK(pace.window_bytes() == 256 * 1024);
  pace.worked(256 * 1024, 900us);
  CHECK(pace.window_bytes() == 256 * 1024);
  pace.worked(256 * 1024, 10ms);  // a seek
  CHECK(pace.window_bytes() == UINT64_MAX);
  pace.worked(1 << 20, 16ms);
  CHECK(pace.window_bytes() == UINT64_MAX);
  pace.worked(1 << 20, 4ms);
  CHECK(pace.window_bytes() == 256 * 1024);
}

TEST_CASE("the copier rests in proportion to its work, but never long") {
  CHECK(Pace::rest_after(0ms) == 0ms);
  CHECK(Pace::rest_after(3ms) == 3ms);
  CHECK(Pace::rest_after(20s) == 1s);
}
