// SPDX-License-Identifier: MIT
// The superblock: round trips, damage of every byte, field checks, torn copies.
#include "alloc/disk/superblock.h"
#include "alloc/base/checksum.h"

#include <cstring>
#include <functional>

#include "alloc/base/codec.h"
#include "alloc/disk/format.h"
#include "alloc/disk/log_batch.h"
#include "alloc/disk/superblock_test_util.h"
#include "test/support/memory_device.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::test;

namespace {

/// All parts at their limits.
Superblock largest() {
  Superblock sb = sample_superblock();
  sb.devices.clear();
  for (unsigned i = 1; i <= kMaxDevices; ++i) {
    sb.devices.push_back(
        {DeviceId(i), uuid_of(static_cast<uint8_t>(i)), 64 << 20, std::string(kMaxPathBytes, 'p')});
  }
  for (unsigned i = 1; i < kMaxDevices; ++i) sb.devices[i].out = Absence{Generation(6), 1, 2};
  update_features(sb);
  sb.label = std::string(kMaxLabelBytes, 'l');
  sb.fs_payload.assign(format::kMaxFsPayload, std::byte{1});
  sb.replace_payload.assign(format::kMaxReplacePayload, std::byte{1});
  const std::string path(kMaxPathBytes, 'q');
  sb.pending_swap = {DeviceId(1), uuid_of(200), path};
  sb.predecessor = {DeviceId(2), uuid_of(201), path};
  sb.role = DeviceRole::replaced;
  sb.devid = DeviceId(4);
  sb.device = uuid_of(202);
  sb.successor = {DeviceId(4), uuid_of(4), path};
  return sb;
}

struct Disk {
  MemoryDevices devices;
  std::shared_ptr<Device> device;

  Disk() {
    devices.add("mem:a", 64 << 20);
    device = devices.open("mem:a", {}).value();
  }
  IoEngine& engine() { return devices.engine(); }
};

}  // namespace

TEST_CASE("a superblock is decoded as it was encoded") {
  Superblock plain = sample_superblock();
  Superblock swapping = sample_superblock();
  swapping.pending_swap = {DeviceId(3), uuid_of(50), "/dev/new"};
  Superblock target = sample_superblock();
  target.role = DeviceRole::target;
  target.device = uuid_of(60);
  Superblock degraded = sample_superblock();
  degraded.devices[0].out = Absence{Generation(5), 0x11, 0x22};
  update_features(degraded);
  Superblock coming_back = degraded;
  coming_back.role = DeviceRole::target;
  coming_back.devid = DeviceId(1);
  coming_back.device = uuid_of(11);
  for (const Superblock& sb : {plain, swapping, target, degraded, coming_back, largest()}) {
    for (unsigned copy : {0u, 1u}) {
      auto encoded = encode(sb, copy);
      REQUIRE(encoded);
      REQUIRE(encoded.value().size() % kBlockSize == 0);
      REQUIRE(encoded_length(encoded.value().span().first(kBlockSize)) == encoded.value().size());
      auto decoded = decode_superblock(encoded.value().span(), copy);
      REQUIRE(decoded);
      REQUIRE(decoded.value() == sb);
      REQUIRE(decode_superblock(encoded.value().span(), 1 - copy).error() == Errc::bad_superblock);
    }
  }
}

TEST_CASE("every damaged byte and every truncation of a superblock is refused") {
  auto encoded = encode(sample_superblock()).value();
  for (size_t i = 0; i < encoded.size(); ++i) {
    for (unsigned bit : {0u, 7u}) {
      encoded.data()[i] ^= std::byte(1u << bit);
      REQUIRE(!decode_superblock(encoded.span()));
      encoded.data()[i] ^= std::byte(1u << bit);
    }
  }
  for (size_t length = 0; length < encoded.size(); length += 61) {
    std::vector<std::byte> part(encoded.data(), encoded.data() + length);
    REQUIRE(!decode_superblock(part));
  }
  REQUIRE(decode_superblock(encoded.span()));
}

namespace {

/// Encodes, lets `damage` change the bytes, corrects the checksum, decodes.
template <class F>
Result<Superblock> decode_with(const Superblock& sb, F damage) {
  auto encoded = encode(sb).value();
  damage(encoded.data());
  uint64_t checksum = 0;
  std::memcpy(encoded.data() + 8, &checksum, 8);
  checksum = boost::endian::native_to_little(checksum_of(encoded.span()));
  std::memcpy(encoded.data() + 8, &checksum, 8);
  return decode_superblock(encoded.span());
}

}  // namespace

TEST_CASE("wrong bytes with a right checksum never crash the decoder, and fields are checked") {
  // Each byte of header and body is set to several values. Decoding must give an error or a
  // superblock that can be encoded again.
  const size_t used = sizeof(format::SuperblockHeader) + 600;
  unsigned accepted = 0;
  for (size_t i = 0; i < used; ++i) {
    for (unsigned value : {0u, 1u, 2u, 0x7fu, 0x80u, 0xffu}) {
      auto decoded =
          decode_with(sample_superblock(), [&](std::byte* p) { p[i] = std::byte(value); });
      if (!decoded) continue;
      ++accepted;
      REQUIRE(encode(decoded.value()));
    }
  }
  REQUIRE(accepted > 0);
  // Reserved bytes and padding.
  REQUIRE(!decode_with(sample_superblock(), [](std::byte* p) { p[200] = std::byte{1}; }));
  REQUIRE(!decode_with(sample_superblock(), [](std::byte* p) { p[4095] = std::byte{1}; }));
}

TEST_CASE("an unknown incompatible feature is refused with its number") {
  auto decoded = decode_with(sample_superblock(), [](std::byte* p) {
    p[offsetof(format::SuperblockHeader, incompatible_features) + 1] = std::byte{0x10};
  });
  REQUIRE(!decoded);
  REQUIRE(decoded.error() == Errc::unsupported_feature);
  REQUIRE(decoded.error().message().find("bit 12") != std::string::npos);
  decoded = decode_with(sample_superblock(), [](std::byte* p) {
    p[offsetof(format::SuperblockHeader, version)] = std::byte{2};
  });
  REQUIRE(decoded.error() == Errc::unsupported_feature);
}

TEST_CASE("profiles with three and four copies need their feature") {
  for (const Profile many : {Profile::raid1c3, Profile::raid1c4}) {
    for (const bool of_data : {true, false}) {
      Superblock sb = sample_superblock();
      (of_data ? sb.data_profile : sb.metadata_profile) = many;
      CHECK(encode(sb).error() == Errc::invalid_argument);
      sb.incompatible_features |= format::kFeatureManyCopies;
      const auto encoded = encode(sb);
      REQUIRE(encoded);
      CHECK(decode_superblock(encoded.value().span()).value() == sb);
    }
  }
}

TEST_CASE("an invalid superblock is not encoded") {
  auto refused = [](auto change) {
    Superblock sb = sample_superblock();
    change(sb);
    auto encoded = encode(sb);
    return !encoded && encoded.error() == Errc::invalid_argument;
  };
  REQUIRE(!refused([](Superblock&) {}));
  CHECK(refused([](Superblock& sb) { sb.volume = Uuid(); }));
  CHECK(refused([](Superblock& sb) { sb.generation = Generation(0); }));
  CHECK(refused([](Superblock& sb) { sb.label = std::string(256, 'x'); }));
  CHECK(refused([](Superblock& sb) { sb.chunk_size = 5 << 20; }));
  CHECK(refused([](Superblock& sb) { sb.data_profile = Profile(8); }));
  CHECK(refused([](Superblock& sb) { sb.metadata_profile = Profile(0); }));
  CHECK(refused([](Superblock& sb) { sb.next_logical = LogicalOffset(4096); }));
  CHECK(refused([](Superblock& sb) { sb.chunk_table.slot = 2; }));
  CHECK(refused([](Superblock& sb) { sb.chunk_table.length = kChunkTableMaxBytes + 1; }));
  CHECK(refused([](Superblock& sb) { sb.chunk_table.generation = Generation(8); }));
  CHECK(refused([](Superblock& sb) { sb.devices.clear(); }));
  CHECK(refused([](Superblock& sb) { sb.devices[1].devid = DeviceId(1); }));
  CHECK(refused([](Superblock& sb) { sb.devices[0].uuid = sb.devices[1].uuid; }));
  CHECK(refused([](Superblock& sb) { sb.devices[0].size_bytes = 4096; }));
  CHECK(refused([](Superblock& sb) { sb.devices[0].path = std::string(513, 'x'); }));
  CHECK(refused([](Superblock& sb) { sb.fs_payload.resize(1025); }));
  CHECK(refused([](Superblock& sb) { sb.replace_payload.resize(24 * 1024 + 1); }));
  CHECK(refused([](Superblock& sb) { sb.device = uuid_of(99); }));
  CHECK(refused([](Superblock& sb) { sb.devid = DeviceId(1); }));
  CHECK(refused([](Superblock& sb) { sb.role = DeviceRole::target; }));
  CHECK(refused([](Superblock& sb) { sb.role = DeviceRole(7); }));
  CHECK(refused([](Superblock& sb) { sb.successor = {DeviceId(1), uuid_of(40), ""}; }));
  CHECK(refused([](Superblock& sb) { sb.pending_swap = {DeviceId(2), uuid_of(40), ""}; }));
  CHECK(refused([](Superblock& sb) { sb.pending_swap = {DeviceId(1), uuid_of(13), ""}; }));
  CHECK(refused([](Superblock& sb) { sb.predecessor = {DeviceId(1), Uuid(), ""}; }));
}

TEST_CASE("the newest valid copy of a superblock counts") {
  Disk disk;
  REQUIRE(read_superblock(disk.engine(), *disk.device).error() == Errc::not_found);
  Superblock old = sample_superblock(), newer = sample_superblock();
  newer.generation = Generation(8);
  REQUIRE(write_superblock(disk.engine(), *disk.device, old));
  REQUIRE(verify_superblock(disk.engine(), *disk.device, old));
  REQUIRE(verify_superblock(disk.engine(), *disk.device, newer).error() == Errc::checksum_mismatch);
  REQUIRE(read_superblock(disk.engine(), *disk.device).value() == old);

  auto put = [&](const Superblock& sb, unsigned copy, size_t bytes = kBlockSize) {
    auto encoded = encode(sb, copy).value();
    disk.devices.disk("mem:a").write(kSuperblockOffsets[copy], encoded.span().first(bytes));
  };
  SECTION("the newer one, wherever it lies") {
    put(newer, 0);
    REQUIRE(read_superblock(disk.engine(), *disk.device).value() == newer);
    put(old, 0);
    put(newer, 1);
    REQUIRE(read_superblock(disk.engine(), *disk.device).value() == newer);
  }
  SECTION("copy 0 torn at any sector, or rotten: copy 1") {
    for (size_t bytes = 512; bytes < kBlockSize; bytes += 512) {
      put(old, 0);
      Superblock long_one = newer;
      long_one.replace_payload.assign(3500, std::byte{3});  // reaches the last sector
      put(long_one, 0, bytes);
      REQUIRE(read_superblock(disk.engine(), *disk.device).value() == old);
    }
    disk.devices.disk("mem:a").corrupt(kSuperblockOffsets[0], kBlockSize);
    REQUIRE(read_superblock(disk.engine(), *disk.device).value() == old);
  }
  SECTION("both rotten") {
    disk.devices.disk("mem:a").corrupt(kSuperblockOffsets[0] + 100, 1);
    disk.devices.disk("mem:a").corrupt(kSuperblockOffsets[1] + 100, 1);
    auto read = read_superblock(disk.engine(), *disk.device);
    REQUIRE(read.error() == Errc::bad_superblock);
    REQUIRE(read.error().message().find("mem:a") != std::string::npos);
  }
  SECTION("copy 1 of another life of the device") {
    Superblock foreign = newer;
    foreign.volume = uuid_of(77);
    put(foreign, 1);
    REQUIRE(read_superblock(disk.engine(), *disk.device).value() == old);
  }
  SECTION("wiped") {
    REQUIRE(wipe_superblocks(disk.engine(), *disk.device));
    REQUIRE(read_superblock(disk.engine(), *disk.device).error() == Errc::not_found);
  }
  SECTION("a passing read error of copy 0 does not make copy 1 count") {
    put(newer, 0);
    bool failed = false;
    disk.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (failed || request.offset != kSuperblockOffsets[0]) return ok();
      failed = true;
      return Error(Errc::io_error);
    });
    REQUIRE(read_superblock(disk.engine(), *disk.device).value() == newer);
    REQUIRE(failed);
  }
}

TEST_CASE("a superblock of many blocks is read completely") {
  Disk disk;
  REQUIRE(write_superblock(disk.engine(), *disk.device, largest()));
  REQUIRE(read_superblock(disk.engine(), *disk.device).value() == largest());
  REQUIRE(describe(largest()).find("replaced of devid 4") != std::string::npos);
}

TEST_CASE("generations and sizes beyond their limits are refused") {
  const auto decode_number = [](size_t offset, uint64_t value) {
    return decode_with(sample_superblock(), [&](std::byte* p) {
      value = boost::endian::native_to_little(value);
      std::memcpy(p + offset, &value, sizeof value);
    });
  };
  constexpr size_t kGeneration = offsetof(format::SuperblockHeader, generation);
  CHECK(decode_number(kGeneration, kMaxGeneration.value));
  for (const uint64_t generation : {kMaxGeneration.value + 1, ~uint64_t{0} - 3, ~uint64_t{0}}) {
    const auto decoded = decode_number(kGeneration, generation);
    REQUIRE_FALSE(decoded);
    CHECK(decoded.error().message().find("is impossible: the last one is") != std::string::npos);
  }
  Superblock sb = sample_superblock();
  sb.devices[0].size_bytes = kMaxVolumeBytes - sb.devices[1].size_bytes;
  CHECK(encode(sb));
  sb.devices[0].size_bytes += kBlockSize;
  CHECK_FALSE(encode(sb));
}

TEST_CASE("devices that are out: what a superblock may not say of them") {
  Superblock degraded = sample_superblock();
  degraded.devices[0].out = Absence{Generation(5), 0x11, 0x22};
  update_features(degraded);
  REQUIRE(validate(degraded));
  const auto is_bad = [](Superblock sb, const std::function<void(Superblock&)>& change) {
    change(sb);
    return !validate(sb);
  };
  CHECK(is_bad(degraded, [](Superblock& sb) { sb.incompatible_features = 0; }));
  CHECK(is_bad(degraded, [](Superblock& sb) { sb.devices[0].out.reset(); }));
  CHECK(is_bad(degraded, [](Superblock& sb) { sb.devices[0].out->whole_until = Generation(8); }));
  CHECK(is_bad(degraded, [](Superblock& sb) { sb.devices[0].out->whole_until = Generation(0); }));
  CHECK(is_bad(degraded, [](Superblock& sb) { sb.devices[1].out = sb.devices[0].out; }));
  // It is on a device that is out itself.
  CHECK(is_bad(degraded, [](Superblock& sb) {
    sb.devid = DeviceId(1);
    sb.device = uuid_of(11);
  }));
  // The encoded part: devids in order, and in the device table.
  const AlignedBuffer good = encode(degraded).value();
  CHECK(decode_superblock(good.span()).value() == degraded);
  CHECK(describe(degraded).find("whole until generation 5") != std::string::npos);
}

TEST_CASE("a device that is out is known again by the superblock it was left with") {
  const Absence absence{Generation(5), 0x11, 0x22};
  CHECK(absence.left(Generation(5), 0x11));
  CHECK(absence.left(Generation(6), 0x22));  // it still got that of the commit that failed
  CHECK(absence.left(Generation(5) + kReplayStep, 0x22));  // the first one after a replay
  CHECK_FALSE(absence.left(Generation(5) + kReplayStep, 0x11));
  CHECK_FALSE(absence.left(Generation(5), 0x22));
  CHECK_FALSE(absence.left(Generation(6), 0x11));
  CHECK_FALSE(absence.left(Generation(4), 0x11));
  CHECK_FALSE(absence.left(Generation(7), 0x22));
}
