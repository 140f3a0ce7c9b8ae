// SPDX-License-Identifier: MIT
// The chunk table: round trips, damage of every byte, and every rule for chunks.
#include "alloc/disk/chunk_table.h"
#include "alloc/base/checksum.h"
#include "alloc/base/uuid.h"

#include <cstring>

#include "alloc/base/codec.h"
#include "alloc/disk/format.h"
#include "test/support/memory_device.h"
#include "test/support/values.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::test;

namespace {

struct Fixture {
  Uuid volume;
  std::vector<DeviceEntry> devices;
  ChunkTableLimits limits{devices, LogicalOffset(64 * kMiB), Generation(9)};

  Fixture() {
    volume.bytes.fill(3);
    for (uint64_t i = 1; i <= 4; ++i) {
      devices.push_back({DeviceId(i), uuid_of(static_cast<uint8_t>(10 + i)), 32 * kMiB, ""});
    }
  }
};

Stripe stripe(uint64_t device, uint64_t offset_mib, uint64_t birth = 2) {
  return {DeviceId(device), PhysicalOffset(offset_mib * kMiB), Generation(birth)};
}

Chunk chunk(uint64_t start_mib, uint64_t length_mib, Profile profile, std::vector<Stripe> stripes) {
  Chunk c;
  c.start = LogicalOffset(start_mib * kMiB);
  c.length = length_mib * kMiB;
  c.profile = profile;
  c.birth = Generation(2);
  c.copies = static_cast<uint16_t>(copies_of(profile));
  c.stripes.assign(stripes.begin(), stripes.end());
  return c;
}

std::vector<Chunk> sample() {
  std::vector<Chunk> chunks = {
      chunk(0, 4, Profile::single, {stripe(1, 4)}),
      chunk(4, 2, Profile::dup, {stripe(1, 8), stripe(1, 10, 5)}),
      chunk(10, 4, Profile::raid1, {stripe(1, 12), stripe(2, 4)}),
      chunk(14, 4, Profile::raid0, {stripe(3, 4), stripe(2, 8)}),
      chunk(20, 4, Profile::raid10, {stripe(1, 20), stripe(2, 20), stripe(3, 20), stripe(4, 20)}),
      chunk(24, 2, Profile::raid1c3, {stripe(4, 24), stripe(2, 24), stripe(3, 24)}),
      chunk(26, 2, Profile::raid1c4, {stripe(1, 26), stripe(2, 26), stripe(4, 26), stripe(3, 26)}),
  };
  chunks[1].kind = ChunkKind::metadata;
  return chunks;
}

ChunkList list_of(const std::vector<Chunk>& chunks) {
  ChunkList list;
  for (const Chunk& c : chunks) list.push_back(std::make_shared<const Chunk>(c));
  return list;
}

bool same(const ChunkList& a, const ChunkList& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return *x == *y; });
}

}  // namespace

TEST_CASE("a chunk table is decoded as it was encoded") {
  Fixture f;
  for (const ChunkList& list : {ChunkList(), list_of(sample())}) {
    auto blob = encode_chunk_table(list, f.volume, f.limits);
    REQUIRE(blob);
    auto decoded = decode_chunk_table(blob.value(), f.volume, f.limits);
    REQUIRE(decoded);
    REQUIRE(same(decoded.value(), list));
    // On disk, zeros follow the table.
    blob.value().resize(blob.value().size() + 4096);
    REQUIRE(decode_chunk_table(blob.value(), f.volume, f.limits));
  }
  REQUIRE(describe(list_of(sample())).find("raid10") != std::string::npos);
}

TEST_CASE("every damaged byte and every truncation of a chunk table is refused") {
  Fixture f;
  auto blob = encode_chunk_table(list_of(sample()), f.volume, f.limits).value();
  for (size_t i = 0; i < blob.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      blob[i] ^= std::byte(1u << bit);
      REQUIRE(!decode_chunk_table(blob, f.volume, f.limits));
      blob[i] ^= std::byte(1u << bit);
    }
  }
  for (size_t length = 0; length < blob.size(); ++length) {
    std::vector<std::byte> part(blob.begin(), blob.begin() + static_cast<ptrdiff_t>(length));
    REQUIRE(!decode_chunk_table(part, f.volume, f.limits));
  }
}

TEST_CASE("wrong bytes with a right checksum never crash the decoder") {
  Fixture f;
  const auto good = encode_chunk_table(list_of(sample()), f.volume, f.limits).value();
  for (size_t i = 0; i < good.size(); ++i) {
    for (unsigned value : {0u, 1u, 2u, 5u, 0x7fu, 0x80u, 0xffu}) {
      auto blob = good;
      blob[i] = std::byte(value);
      uint64_t checksum = 0;
      std::memcpy(blob.data() + 8, &checksum, 8);
      checksum = boost::endian::native_to_little(checksum_of(blob));
      std::memcpy(blob.data() + 8, &checksum, 8);
      auto decoded = decode_chunk_table(blob, f.volume, f.limits);
      if (decoded) REQUIRE(encode_chunk_table(decoded.value(), f.volume, f.limits));
    }
  }
}

TEST_CASE("a table of another volume or generation is refused") {
  Fixture f;
  auto blob = encode_chunk_table(list_of(sample()), f.volume, f.limits).value();
  Uuid other;
  other.bytes.fill(4);
  REQUIRE(!decode_chunk_table(blob, other, f.limits));
  REQUIRE(!decode_chunk_table(blob, f.volume, {f.devices, f.limits.next_logical, Generation(10)}));
}

TEST_CASE("chunks that break a rule are refused") {
  Fixture f;
  auto refused = [&](auto change) {
    auto chunks = sample();
    change(chunks);
    auto valid = validate_chunks(list_of(chunks), f.limits);
    return !valid && valid.error() == Errc::bad_chunk_table;
  };
  REQUIRE(!refused([](auto&) {}));
  using Chunks = std::vector<Chunk>;
  CHECK(refused([](Chunks& c) { c[1].start = LogicalOffset(3 * kMiB); }));   // overlap
  CHECK(refused([](Chunks& c) { std::swap(c[0], c[2]); }));                  // order
  CHECK(refused([](Chunks& c) { c[4].start = LogicalOffset(62 * kMiB); }));  // next_logical
  CHECK(refused([](Chunks& c) { c[0].start = LogicalOffset(4096); }));
  CHECK(refused([](Chunks& c) { c[0].length = 0; }));
  CHECK(refused([](Chunks& c) { c[0].length += 4096; }));
  CHECK(refused([](Chunks& c) { c[0].length = UINT64_MAX - 65535; }));
  CHECK(refused([](Chunks& c) { c[0].stripe_unit = 0; }));
  CHECK(refused([](Chunks& c) { c[0].stripe_unit = 48 * 1024; }));
  CHECK(refused([](Chunks& c) { c[0].stripe_unit = 8192; }));
  CHECK(refused([](Chunks& c) { c[0].kind = ChunkKind(3); }));
  CHECK(refused([](Chunks& c) { c[0].profile = Profile(9); }));
  CHECK(refused([](Chunks& c) { c[0].copies = 0; }));
  CHECK(refused([](Chunks& c) { c[0].profile = Profile::dup; }));
  CHECK(refused([](Chunks& c) { c[1].stripes[1].device = DeviceId(2); }));  // dup on two devices
  CHECK(refused([](Chunks& c) { c[2].stripes[1].device = DeviceId(1); }));  // raid1 on one device
  CHECK(refused([](Chunks& c) { c[4].stripes[1].device = DeviceId(1); }));
  CHECK(refused([](Chunks& c) { c[5].stripes[2].device = DeviceId(4); }));  // c3 on two devices
  CHECK(refused([](Chunks& c) { c[5].stripes.push_back(stripe(1, 24)); }));
  CHECK(refused([](Chunks& c) { c[5].stripes.pop_back(); }));
  CHECK(refused([](Chunks& c) { c[5].copies = 1; }));
  CHECK(refused([](Chunks& c) { c[5].profile = Profile::raid1c4; }));
  CHECK(refused([](Chunks& c) { c[6].profile = Profile::raid1c3; }));
  CHECK(refused([](Chunks& c) { c[6].stripes[3].device = DeviceId(2); }));  // c4 on three devices
  CHECK(refused([](Chunks& c) { c[0].birth = Generation(10); }));
  CHECK(refused([](Chunks& c) { c[0].birth = Generation(0); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].birth = Generation(1); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].birth = Generation(10); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].device = DeviceId(5); }));  // not a member
  CHECK(refused([](Chunks& c) { c[0].stripes[0].offset = PhysicalOffset(3 * kMiB); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].offset = PhysicalOffset(29 * kMiB); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].offset = PhysicalOffset(UINT64_MAX - 4095); }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].offset += 512; }));
  CHECK(refused([](Chunks& c) { c[0].stripes[0].offset = PhysicalOffset(7 * kMiB); }));  // on [1]
  CHECK(!refused([](Chunks& c) { c[0].stripes[0].offset = PhysicalOffset(28 * kMiB); }));
}

TEST_CASE("chunks with three or four copies are read only if the superblock has their feature") {
  Fixture f;
  test::MemoryDevices devices;
  devices.add("mem:a", 64 * kMiB);
  const auto device = devices.open("mem:a", {}).value();
  for (const size_t many : {5, 6}) {
    const auto blob = encode_chunk_table(list_of({sample()[many]}), f.volume, f.limits).value();
    AlignedBuffer padded(round_up(blob.size(), kBlockSize));
    std::copy(blob.begin(), blob.end(), padded.data());
    REQUIRE(devices.engine().write(*device, kChunkTableOffsets[0], padded.span()));
    Superblock sb;
    sb.volume = f.volume;
    sb.next_logical = f.limits.next_logical;
    sb.chunk_table = {0, static_cast<uint32_t>(blob.size()), checksum_of(blob), Generation(9)};
    const auto refused = read_chunk_table(devices.engine(), *device, sb, f.devices);
    REQUIRE(!refused);
    CHECK(refused.error() == Errc::bad_chunk_table);
    sb.incompatible_features = format::kFeatureManyCopies;
    CHECK(read_chunk_table(devices.engine(), *device, sb, f.devices));
  }
}

TEST_CASE("a table that does not fit its slot is refused") {
  const Uuid id = uuid_of(1);
  const std::vector<DeviceEntry> devices = {{DeviceId(1), id, uint64_t{1} << 50, ""}};
  auto table_of = [&](uint64_t count) {
    ChunkList list;
    for (uint64_t i = 0; i < count; ++i) {
      list.push_back(
          std::make_shared<const Chunk>(chunk(i, 1, Profile::single, {stripe(1, 4 + i)})));
    }
    return encode_chunk_table(list, id, {devices, LogicalOffset(count * kMiB), Generation(9)});
  };
  const uint64_t most = (kChunkTableMaxBytes - sizeof(format::ChunkTableHeader)) / 64;
  REQUIRE(table_of(most));
  REQUIRE(table_of(most + 1).error() == Errc::bad_chunk_table);
}

TEST_CASE("a chunk that is longer than any chunk is made is refused") {
  Fixture f;
  for (DeviceEntry& entry : f.devices) entry.size_bytes = kMaxVolumeBytes / 4;
  const ChunkTableLimits limits{f.devices, LogicalOffset(kMaxLogical), Generation(9)};
  const auto accepted = [&](ChunkKind kind, uint64_t length) {
    Chunk c = chunk(0, 1, Profile::single, {stripe(1, 4)});
    c.kind = kind;
    c.length = length;
    return validate_chunks(list_of({c}), limits).has_value();
  };
  CHECK(accepted(ChunkKind::data, kMaxDataChunkBytes));
  CHECK_FALSE(accepted(ChunkKind::data, kMaxDataChunkBytes + kMiB));
  CHECK_FALSE(accepted(ChunkKind::data, uint64_t{1} << 59));
  CHECK(accepted(ChunkKind::metadata, kMaxMetadataChunkBytes));
  CHECK_FALSE(accepted(ChunkKind::metadata, kMaxMetadataChunkBytes + kMiB));
}
