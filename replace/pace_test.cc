// SPDX-License-Identifier: MIT
// Tests of Pace: when programs count as using the filesystem.
#include "replace/pace.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace std::chrono_literals;

TEST_CASE(
    "programs count as using the filesystem while their requests take time, and a little longer") {
  Pace pace;
  Nanoseconds now = 5s, served = 3s;
  pace.start(now, served);
  const auto pass = [&](Nanoseconds time, Nanoseconds serving) {
    now += time;
    served += serving;
    return pace.shared(now, served);
  };
  CHECK_FALSE(pass(10ms, 0ms));
  CHECK_FALSE(pass(10ms, 900us));  // a request now and then
  CHECK_FALSE(pass(5ms, 5ms));     // shorter than a sample
  CHECK(pass(5ms, 0ms));
  CHECK(pass(50ms, 0ms));
  CHECK(pass(40ms, 5ms));
  CHECK(pass(99ms, 0ms));
  CHECK_FALSE(pass(1ms, 0ms));
  CHECK(pass(10ms, 80ms));  // many at once
  pace.start(now, served);
  CHECK_FALSE(pass(1ms, 0ms));
}

TEST_CASE("windows are short while programs use the filesystem, except where they cost seeks") {
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
