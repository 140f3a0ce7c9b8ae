// SPDX-License-Identifier: MIT
// Placing chunks: no overlaps, within bounds, all space used, for every profile.
#include "alloc/space/device_space.h"

#include <random>

#include "alloc/disk/superblock.h"
#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;

std::shared_ptr<const Chunk> chunk_at(const DeviceSpace::Placement& placement, Profile profile,
                                      uint64_t start) {
  auto chunk = std::make_shared<Chunk>();
  chunk->start = LogicalOffset(start);
  chunk->length = placement.length;
  chunk->profile = profile;
  chunk->copies = placement.copies;
  for (const auto& [device, offset] : placement.stripes) {
    chunk->stripes.push_back({device, offset, Generation(1)});
  }
  return chunk;
}

TEST_CASE("chunks fill the devices as far as potential() says, without overlap and within bounds") {
  const Profile profile = GENERATE(Profile::single, Profile::dup, Profile::raid1, Profile::raid0);
  INFO(name_of(profile));
  DeviceSpace space;
  const std::map<uint64_t, uint64_t> ends = {{1, 100}, {2, 71}, {3, 40}};
  for (const auto& [id, mib] : ends) space.set_end(DeviceId(id), mib * kMiB + 5000);
  CHECK(space.usable_bytes() == (100 + 71 + 40 - 12) * kMiB + 15000);
  CHECK(space.unallocated_bytes() == (100 + 71 + 40 - 12) * kMiB);

  std::mt19937_64 random(3);
  std::vector<std::shared_ptr<const Chunk>> chunks;
  uint64_t start = 0;
  const uint64_t promised = space.potential(profile);
  uint64_t made = 0;
  // Make and remove chunks at random, then fill up.
  for (int step = 0; step < 600; ++step) {
    if (step < 500 && !chunks.empty() && random() % 2) {
      const size_t index = random() % chunks.size();
      space.retire(*chunks[index]);
      CHECK_FALSE(space.first_extent(chunks[index]->stripes[0].device,
                                     {chunks[index]->stripes[0].offset, 4096}));
      space.release(*chunks[index]);
      made -= chunks[index]->length;
      chunks.erase(chunks.begin() + static_cast<long>(index));
    }
    const auto placement = space.place(profile, (1 + random() % 12) * kMiB);
    if (!placement) continue;
    const uint64_t expected = space.potential_after(profile, *placement);
    chunks.push_back(chunk_at(*placement, profile, start));
    start += placement->length;
    made += placement->length;
    space.occupy(chunks.back());
    REQUIRE(space.potential(profile) == expected);

    const Chunk& chunk = *chunks.back();
    REQUIRE(chunk.length % (chunk.columns() * kMiB) == 0);
    for (const auto& [id, mib] : ends) {
      uint64_t end = kFirstChunkOffset;
      for (const auto& extent :
           device_extents(ChunkList(chunks.begin(), chunks.end()), DeviceId(id))) {
        REQUIRE(extent.range.start.value >= end);
        end = extent.range.end().value;
      }
      REQUIRE(end <= mib * kMiB);
      REQUIRE(space.last_extent_end(DeviceId(id)) == (end == kFirstChunkOffset ? 0 : end));
    }
    if (profile == Profile::dup) REQUIRE(chunk.stripes[0].device == chunk.stripes[1].device);
    if (profile == Profile::raid1) REQUIRE(chunk.stripes[0].device != chunk.stripes[1].device);
  }
  CHECK_FALSE(space.place(profile, kMiB));
  CHECK(space.potential(profile) == 0);
  if (profile == Profile::single) CHECK(made == promised);
}

TEST_CASE("filling empty devices gives exactly what potential() says") {
  const Profile profile = GENERATE(Profile::single, Profile::dup);
  DeviceSpace space;
  for (uint64_t id : {1, 2, 3}) space.set_end(DeviceId(id), (50 + 13 * id) * kMiB);
  const uint64_t promised = space.potential(profile);
  uint64_t made = 0;
  while (auto placement = space.place(profile, 8 * kMiB)) {
    space.occupy(chunk_at(*placement, profile, made));
    made += placement->length;
  }
  CHECK(made == promised);
}

TEST_CASE("the device with the most free space comes first; raid10 needs four devices") {
  DeviceSpace space;
  space.set_end(DeviceId(1), 50 * kMiB);
  space.set_end(DeviceId(2), 90 * kMiB);
  CHECK(space.place(Profile::single, kMiB)->stripes[0].first == DeviceId(2));
  CHECK_FALSE(space.place(Profile::raid10, kMiB));
  space.set_end(DeviceId(3), 50 * kMiB);
  space.set_end(DeviceId(4), 50 * kMiB);
  auto placement = space.place(Profile::raid10, 8 * kMiB);
  REQUIRE(placement);
  CHECK(placement->stripes.size() == 4);
  CHECK(placement->length == 8 * kMiB);
  CHECK(placement->stripe_length() == 4 * kMiB);
}

TEST_CASE("new chunks lie below a lowered end, old ones stay where they are") {
  DeviceSpace space;
  space.set_end(DeviceId(1), 20 * kMiB);
  auto first = chunk_at(*space.place(Profile::single, 10 * kMiB), Profile::single, 0);
  space.occupy(first);
  space.set_end(DeviceId(1), 8 * kMiB);
  CHECK_FALSE(space.place(Profile::single, kMiB));
  CHECK(space.last_extent_end(DeviceId(1)) == 14 * kMiB);
  space.release(*first);
  CHECK(space.place(Profile::single, 10 * kMiB)->length == 4 * kMiB);
}

TEST_CASE("first_extent finds the lowest overlapping extent") {
  DeviceSpace space;
  space.set_end(DeviceId(1), 100 * kMiB);
  auto a = test::make_chunk(Profile::single, 0, 2 * kMiB, {{1, 10}});
  auto b = test::make_chunk(Profile::single, 2 * kMiB, 2 * kMiB, {{1, 20}});
  space.occupy(a);
  space.occupy(b);
  auto find = [&](uint64_t mib, uint64_t length) {
    auto extent = space.first_extent(DeviceId(1), {PhysicalOffset(mib * kMiB), length * kMiB});
    return extent ? extent->range.start.value / kMiB : 0;
  };
  CHECK(find(4, 6) == 0);
  CHECK(find(4, 7) == 10);
  CHECK(find(11, 30) == 10);
  CHECK(find(12, 8) == 0);
  CHECK(find(12, 90) == 20);
  CHECK(find(22, 90) == 0);
  space.retire(*b);
  CHECK(find(20, 1) == 0);
}

TEST_CASE("potential_without: what is left for pairs when some space is taken") {
  DeviceSpace space;
  space.set_end(DeviceId(1), kFirstChunkOffset + 100 * kMiB);
  space.set_end(DeviceId(2), kFirstChunkOffset + 60 * kMiB);
  const auto pairs = [&](uint64_t mib) {
    return space.potential_without(Profile::dup, mib * kMiB) / kMiB;
  };
  CHECK(pairs(0) == space.potential(Profile::dup) / kMiB);
  CHECK(pairs(1) == 79);   // 99, 60
  CHECK(pairs(40) == 60);  // 60, 60
  CHECK(pairs(50) == 54);  // 55, 55
  CHECK(pairs(159) <= 1);
  CHECK(pairs(160) == 0);
}

}  // namespace
}  // namespace moltfs::alloc
