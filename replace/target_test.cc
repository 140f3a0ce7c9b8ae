// SPDX-License-Identifier: MIT
// Tests of how a target is prepared.
#include "replace/target.h"

#include "replace/engine_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;

TEST_CASE("the target is discarded, except where the copy is about to write") {
  Machine m({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
  m.make("mem:a");
  std::mt19937 random(5);
  m.populate(8 * kMiB, random);
  std::vector<bool> under_chunk(64), discarded(64);  // by MiB
  for (const auto& extent :
       alloc::device_extents(*m.volume->space().committed_chunks(), DeviceId(1))) {
    for (uint64_t at = extent.range.start.value; at < extent.range.end().value; at += kMiB) {
      under_chunk[at / kMiB] = true;
    }
  }
  m.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op == alloc::IoOp::discard && request.device->path() == "mem:b") {
      for (uint64_t at = 0; at < request.length; at += kMiB) {
        discarded[(request.offset + at) / kMiB] = true;
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

TEST_CASE("a target that cannot discard keeps no signature of what it held") {
  constexpr uint64_t KiB = 1024, size = 128 * kMiB;
  Machine m({{"mem:a", size}, {"mem:b", size}});
  m.make("mem:a");
  std::mt19937 random(5);
  m.populate(8 * kMiB, random);
  m.devices.set_hook([](const alloc::IoRequest& request) -> Result<void> {
    if (request.op == alloc::IoOp::discard) return Errc::io_error;
    return ok();
  });
  // It was a member of another moltfs, later of ZFS: four labels, two at each end. The first one
  // overwrote copy 0 of the superblock, copy 1 is still there.
  auto other = m.volume->superblock();
  other.volume.bytes[0] ^= 1;
  REQUIRE(alloc::write_superblock(m.devices, *m.devices.open("mem:b", {}).value(), other));
  const std::vector<std::byte> label(256 * KiB, std::byte{0xb1});
  for (const uint64_t at : {uint64_t{0}, 256 * KiB, size - 512 * KiB, size - 256 * KiB}) {
    m.devices.disk("mem:b").write(at, label);
  }
  const auto started = m.engine->start({"1", "mem:b"});
  REQUIRE(!started);
  REQUIRE(started.error() == Errc::foreign_signature);
  REQUIRE(m.engine->start({"1", "mem:b", true}));
  REQUIRE(m.wait().state == State::finished);
  for (const uint64_t at : {uint64_t{0}, 256 * KiB, size - 512 * KiB, size - 256 * KiB}) {
    INFO(at);
    std::vector<std::byte> found(label.size());
    m.devices.disk("mem:b").read(at, found);
    // Our superblock lies in the first label; the log in the others starts empty.
    CHECK(std::count(found.begin(), found.end(), std::byte{0xb1}) < 1000);
  }
}
