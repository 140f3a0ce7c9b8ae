// SPDX-License-Identifier: MIT
#include "alloc/disk/peek.h"

#include "alloc/disk/superblock_test_util.h"
#include "test/support/memory_device.h"

namespace moltfs::alloc {
namespace {

TEST_CASE("the superblock of a device that is write-protected is read; nothing is written") {
  moltfs::test::MemoryDevices devices;
  devices.add("mem:a", kMinDeviceBytes);
  REQUIRE(write_superblock(devices, *devices.open("mem:a", {}).value(),
                           moltfs::test::sample_superblock()));
  devices.write_protect("mem:a", true);
  REQUIRE(!devices.open("mem:a", {}));
  const auto before = devices.disk("mem:a").clone();
  const auto seen = peek_superblock(devices, "mem:a");
  REQUIRE(seen);
  CHECK(seen.value() == moltfs::test::sample_superblock());
  CHECK(open_shared(devices, "mem:a").value()->read_only());
  CHECK(devices.disk("mem:a").same_content(*before));
}

TEST_CASE("no device, and a device without a superblock") {
  moltfs::test::MemoryDevices devices;
  devices.add("mem:empty", kMinDeviceBytes);
  const auto empty = peek_superblock(devices, "mem:empty");
  REQUIRE(!empty);
  CHECK(empty.error() == Errc::not_found);
  const auto missing = peek_superblock(devices, "mem:none");
  REQUIRE(!missing);
  CHECK(missing.error() == Errc::not_found);
}

}  // namespace
}  // namespace moltfs::alloc
