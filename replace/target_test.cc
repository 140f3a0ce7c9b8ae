// SPDX-License-Identifier: MIT
// Tests of how a target is prepared.
#include "replace/target.h"

#include "replace/engine_fixture.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;

TEST_CASE("the target is discarded, but for what the copy is about to write") {
  Machine m({{"mem:a", 64 * MiB}, {"mem:b", 64 * MiB}});
  m.make("mem:a");
  std::mt19937 random(5);
  m.populate(8 * MiB, random);
  std::vector<bool> under_chunk(64), discarded(64);  // by MiB
  for (const auto& extent :
       alloc::device_extents(*m.volume->space().committed_chunks(), DeviceId(1))) {
    for (uint64_t at = extent.range.start.value; at < extent.range.end().value; at += MiB) {
      under_chunk[at / MiB] = true;
    }
  }
  m.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op == alloc::IoOp::discard && request.device->path() == "mem:b") {
      for (uint64_t at = 0; at < request.length; at += MiB) {
        discarded[(request.offset + at) / MiB] = true;
      }
    }
    return ok();
  });
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  for (size_t i = 0; i < 64; ++i) {
    INFO("MiB " << i);
    CHECK(discarded[i] == !under_chunk[i]);
  }
}
