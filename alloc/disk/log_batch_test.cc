// SPDX-License-Identifier: MIT
// The batches of the fsync log: what was written is read, and nothing else.
#include "alloc/disk/log_batch.h"
#include "alloc/base/uuid.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "test/support/values.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::test;

namespace {

const LogBase kBase{uuid_of(7), Generation(10), 0x1234567};

std::vector<DeviceEntry> one_device() {
  return {{DeviceId(1), uuid_of(1), 64 * kMiB, "a"}};
}

std::shared_ptr<const Chunk> chunk_at(uint64_t start, uint64_t physical) {
  auto chunk = std::make_shared<Chunk>();
  chunk->start = LogicalOffset(start);
  chunk->length = kMiB;
  chunk->birth = Generation(11);
  chunk->stripes.push_back({DeviceId(1), PhysicalOffset(physical), Generation(11)});
  return chunk;
}

LogBatch batch_of(size_t bytes, uint64_t running = 11, char fill = 'x') {
  LogBatch batch;
  batch.running = Generation(running);
  batch.payload.assign(bytes, static_cast<std::byte>(fill));
  return batch;
}

/// An area with the batches of a chain.
struct Area {
  std::vector<std::byte> bytes = std::vector<std::byte>(kLogBytes);
  LogChain chain{kBase};
  std::vector<uint64_t> ends;

  bool append(const LogBatch& batch) {
    auto write = chain.append(batch, one_device());
    if (!write) return false;
    const uint64_t at = write->offset - kLogOffsets[kBase.generation.value % 2];
    std::memcpy(bytes.data() + at, write->bytes.data(), write->bytes.size());
    ends.push_back(at + write->bytes.size());
    return true;
  }
  FoundLog read(const LogBase& base = kBase) const { return read_log(bytes, base, one_device()); }
};

}  // namespace

TEST_CASE("batches are read as they were written") {
  Area area;
  LogBatch second = batch_of(9000, 12, 'y');
  second.data_flushed = true;
  second.chunks = {chunk_at(8 * kMiB, 16 * kMiB), chunk_at(9 * kMiB, 17 * kMiB)};
  REQUIRE(area.append(batch_of(100)));
  REQUIRE(area.append(second));
  REQUIRE(area.append(batch_of(0)));
  CHECK(area.chain.used_bytes() == 4096 + 12288 + 4096);
  const FoundLog found = area.read();
  REQUIRE(found.batches.size() == 3);
  CHECK(found.begun);
  CHECK(found.batches[0].payload == batch_of(100).payload);
  CHECK_FALSE(found.batches[0].data_flushed);
  CHECK(found.batches[1].payload == second.payload);
  CHECK(found.batches[1].data_flushed);
  CHECK(found.batches[1].running == Generation(12));
  REQUIRE(found.batches[1].chunks.size() == 2);
  CHECK(*found.batches[1].chunks[1] == *second.chunks[1]);
  CHECK(found.batches[2].payload.empty());
}

TEST_CASE("a chain belongs to one superblock") {
  Area area;
  REQUIRE(area.append(batch_of(100)));
  const auto on = [&](const LogBase& base) { return area.read(base); };
  CHECK_FALSE(on({uuid_of(8), kBase.generation, kBase.id}).begun);
  CHECK_FALSE(on({kBase.volume, Generation(12), kBase.id}).begun);
  CHECK_FALSE(on({kBase.volume, Generation(8), kBase.id}).begun);
  CHECK_FALSE(on({kBase.volume, kBase.generation, kBase.id + 1}).begun);
  CHECK(on(kBase).batches.size() == 1);
}

TEST_CASE("chains on a generation and on the next lie in areas of their own") {
  LogChain even({uuid_of(7), Generation(10), 1}), odd({uuid_of(7), Generation(11), 1});
  CHECK(even.append(batch_of(1), one_device())->offset == kLogOffsets[0]);
  CHECK(odd.append(batch_of(1, 12), one_device())->offset == kLogOffsets[1]);
  CHECK(kLogOffsets[0] >= kSuperblockOffsets[0] + kSuperblockMaxBytes);
  CHECK(kLogOffsets[0] + kLogBytes <= kChunkTableOffsets[0]);
  CHECK(kLogOffsets[1] >= kSuperblockOffsets[1] + kSuperblockMaxBytes);
  CHECK(kLogOffsets[1] + kLogBytes <= kFirstChunkOffset);
}

TEST_CASE("a full area takes no more batches, and those in it stay") {
  Area area;
  size_t count = 0;
  while (area.append(batch_of(60'000))) ++count;
  CHECK(count == kLogBytes / 61'440);
  CHECK_FALSE(area.append(batch_of(60'000)));
  CHECK(area.read().batches.size() == count);
  CHECK(area.append(batch_of(10)));
  CHECK(area.read().batches.size() == count + 1);
}

TEST_CASE("a batch of an older chain or from another place does not continue the chain") {
  Area old, area;
  for (char fill : {'a', 'b', 'c'}) REQUIRE(old.append(batch_of(100, 11, fill)));
  // The same chain begins again, as after a crash that lost batch a, but not b and c.
  area.bytes = old.bytes;
  REQUIRE(area.append(batch_of(100, 11, 'n')));
  CHECK(area.read().batches.size() == 1);
  // b at the place of c.
  area = old;
  std::memcpy(area.bytes.data() + old.ends[1], old.bytes.data() + old.ends[0], 4096);
  CHECK(area.read().batches.size() == 2);
}

TEST_CASE("a torn batch ends the log before it, wherever it is torn") {
  Area area;
  for (int i = 0; i < 3; ++i) REQUIRE(area.append(batch_of(9000, 11, static_cast<char>('a' + i))));
  for (uint64_t sector = 0; sector < area.ends[2] / 512; ++sector) {
    Area torn = area;
    const auto at = torn.bytes.begin() + static_cast<ptrdiff_t>(sector * 512);
    // Not zeros: a batch ends with zeros.
    std::fill(at, at + 512, std::byte{0xee});
    const size_t whole = static_cast<size_t>(std::count_if(
        area.ends.begin(), area.ends.end(), [&](uint64_t end) { return end <= sector * 512; }));
    CHECK(torn.read().batches.size() == whole);
    CHECK(torn.read().begun == (sector != 0));
  }
}

TEST_CASE("after any change only the complete batches before it are read") {
  Area area;
  LogBatch with_chunks = batch_of(300);
  with_chunks.chunks = {chunk_at(8 * kMiB, 16 * kMiB)};
  REQUIRE(area.append(batch_of(50)));
  REQUIRE(area.append(with_chunks));
  REQUIRE(area.append(batch_of(5000)));
  std::mt19937 random(5);
  for (int round = 0; round < 20'000; ++round) {
    Area changed = area;
    const uint64_t at =
        round % 2 == 0 ? random() % 200 + (random() % 3) * 4096 : random() % area.ends[2];
    const std::byte before = changed.bytes[at];
    changed.bytes[at] ^= static_cast<std::byte>(1 + random() % 255);
    const auto whole = static_cast<size_t>(
        std::count_if(area.ends.begin(), area.ends.end(), [&](uint64_t end) { return end <= at; }));
    const FoundLog found = changed.read();
    REQUIRE(found.batches.size() == whole);
    changed.bytes[at] = before;
  }
}

TEST_CASE("batches with right checksums and impossible fields are refused") {
  // append() writes whatever it is given; read_log() must check it.
  for (const uint64_t running : {9u, 10u, 13u}) {
    Area area;
    REQUIRE(area.append(batch_of(10, running)));
    CHECK(area.read().batches.empty());
  }
  Area area;
  REQUIRE(area.append(batch_of(10, 11)));
  CHECK(read_log(ConstBytes(area.bytes).first(50), kBase, one_device()).batches.empty());
  CHECK(read_log({}, kBase, one_device()).batches.empty());
}
