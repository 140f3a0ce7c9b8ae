// SPDX-License-Identifier: MIT
#include "test/support/memory_device.h"

#include <cstring>

#include "test/support/catch.h"

namespace moltfs::test {
namespace {

using alloc::IoOp;
using alloc::IoRequest;
constexpr uint64_t MiB = uint64_t{1} << 20;

TEST_CASE("what is written is read back, what was discarded or never written is zero") {
  MemoryDevices devices;
  devices.add("mem:a", uint64_t{1} << 44);
  const auto device = devices.open("mem:a", {}).value();
  AlignedBuffer data(8192), back(8192);
  std::memset(data.data(), 7, data.size());
  const uint64_t far = device->size_bytes() - data.size();
  REQUIRE(devices.write(*device, far, data.span()).has_value());
  REQUIRE(devices.read(*device, far, back.span()).has_value());
  CHECK(std::memcmp(data.data(), back.data(), back.size()) == 0);
  CHECK(devices.disk("mem:a").stored_bytes() == 8192);
  REQUIRE(devices.discard(*device, far, 4096).has_value());
  REQUIRE(devices.read(*device, far, back.span()).has_value());
  CHECK(back.span()[0] == std::byte{0});
  CHECK(back.span()[4096] == std::byte{7});
  REQUIRE(devices.read(*device, 0, back.span()).has_value());
  CHECK(back.span()[0] == std::byte{0});
  CHECK(devices.read(*device, far + 4096, back.span()).has_error());
  REQUIRE(devices.flush(*device).has_value());
  CHECK(device->counters().flushes == 1);
  CHECK(device->counters().read_errors == 1);
  CHECK(device->counters().written_bytes == 8192);
}

TEST_CASE("exclusive, write-protected, absent and removed devices") {
  MemoryDevices devices;
  devices.add("mem:a", MiB, 4096);
  CHECK(devices.open("mem:b", {}).error() == Errc::not_found);
  auto device = devices.open("mem:a", {}).value();
  CHECK(device->sector_size() == 4096);
  CHECK(devices.open("mem:a", {}).error() == Errc::device_in_use);
  CHECK(devices.open("mem:a", {.exclusive = false}).has_value());
  CHECK(devices.open("mem:a", {}).error() == Errc::device_in_use);
  device.reset();
  devices.write_protect("mem:a", true);
  CHECK(devices.open("mem:a", {}).error() == Errc::device_read_only);
  device = devices.open("mem:a", {.read_only = true}).value();
  AlignedBuffer block(4096);
  CHECK(devices.write(*device, 0, block.span()).error() == Errc::device_read_only);
  CHECK(devices.candidates() == std::vector<std::string>{"mem:a"});
  devices.remove("mem:a");
  CHECK(devices.read(*device, 0, block.span()).error() == Errc::device_gone);
  CHECK(devices.candidates().empty());
}

TEST_CASE("the hook makes chosen requests fail and has seen all of them") {
  MemoryDevices devices;
  devices.add("mem:a", MiB);
  const auto device = devices.open("mem:a", {}).value();
  unsigned seen = 0;
  devices.set_hook([&](const IoRequest& request) -> Result<void> {
    ++seen;
    if (request.op == IoOp::write && request.offset == 4096) return Errc::io_error;
    return ok();
  });
  AlignedBuffer block(4096);
  std::memset(block.data(), 1, block.size());
  std::vector<IoRequest> requests{IoRequest::make_write(device.get(), 0, block.span()),
                                  IoRequest::make_write(device.get(), 4096, block.span()),
                                  IoRequest::make_flush(device.get())};
  devices.run(requests);
  CHECK(seen == 3);
  CHECK(requests[0].result.has_value());
  CHECK(requests[1].result.error() == Errc::io_error);
  CHECK(devices.disk("mem:a").stored_bytes() == 4096);
  devices.set_hook({});
  CHECK(devices.write(*device, 4096, block.span()).has_value());
}

TEST_CASE("the back door: damage, clones, comparison, our mark") {
  MemoryDevices devices;
  MemoryDisk& disk = devices.add("mem:a", MiB);
  const std::string mark(alloc::kSignature);
  disk.write(alloc::kSignatureOffset, std::as_bytes(std::span(mark)));
  CHECK(devices.signature(*devices.open("mem:a", {}).value()).value() == "moltfs");
  devices.insert("mem:b", disk.clone());
  CHECK(devices.disk("mem:b").same_content(disk));
  disk.corrupt(alloc::kSignatureOffset + 3, 1);
  CHECK_FALSE(devices.disk("mem:b").same_content(disk));
  CHECK_FALSE(disk.same_content(devices.disk("mem:b")));
  CHECK(devices.signature(*devices.open("mem:a", {}).value()).value() == std::nullopt);
  disk.corrupt(alloc::kSignatureOffset + 3, 1);
  CHECK(devices.disk("mem:b").same_content(disk));
  disk.corrupt(4094, 4);
  disk.discard(0, 8192);
  CHECK(devices.disk("mem:b").same_content(disk));
}

}  // namespace
}  // namespace moltfs::test
