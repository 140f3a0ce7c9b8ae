// SPDX-License-Identifier: MIT
#include "alloc/disk/peek.h"

#include "test/support/catch.h"
#include "test/support/memory_device.h"

namespace moltfs::alloc {
namespace {

Uuid uuid(uint8_t seed) {
  Uuid id;
  id.bytes.fill(seed);
  return id;
}

Superblock sample() {
  Superblock sb;
  sb.volume = uuid(1);
  sb.generation = Generation(7);
  sb.label = "a label";
  sb.chunk_size = kMinChunkSize;
  sb.chunk_table = {0, 500, 0x1234, Generation(6)};
  sb.devices = {{DeviceId(1), uuid(11), kMinDeviceBytes, "mem:a"}};
  sb.devid = DeviceId(1);
  sb.device = uuid(11);
  return sb;
}

TEST_CASE("the superblock of a device that is write-protected is read; nothing is written") {
  test::MemoryDevices devices;
  devices.add("mem:a", kMinDeviceBytes);
  REQUIRE(write_superblock(devices, *devices.open("mem:a", {}).value(), sample()));
  devices.write_protect("mem:a", true);
  REQUIRE(!devices.open("mem:a", {}));
  const auto before = devices.disk("mem:a").clone();
  const auto seen = peek_superblock(devices, "mem:a");
  REQUIRE(seen);
  CHECK(seen.value() == sample());
  CHECK(open_shared(devices, "mem:a").value()->read_only());
  CHECK(devices.disk("mem:a").same_content(*before));
}

TEST_CASE("no device, and a device without a superblock") {
  test::MemoryDevices devices;
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
