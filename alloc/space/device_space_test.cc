// SPDX-License-Identifier: MIT
// Placing chunks: no overlaps, within bounds, all space used, for every profile.
#include "alloc/space/device_space.h"

#include <algorithm>
#include <bit>
#include <random>
#include <set>

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
  const Profile profile =
      GENERATE(Profile::single, Profile::dup, Profile::raid1, Profile::raid0, Profile::raid1c3);
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
    if (profile == Profile::raid1c3) REQUIRE(chunk.stripes.size() == 3);
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

using Sizes = std::vector<uint64_t>;  // free units of each device

/// How often one unit can be taken from `width` different devices, found by trying everything.
uint64_t most_rounds(Sizes free, size_t width, std::map<Sizes, uint64_t>& known) {
  std::sort(free.begin(), free.end());
  const auto [found, is_new] = known.try_emplace(free, 0);
  if (!is_new) return found->second;
  uint64_t most = 0;
  for (unsigned chosen = 0; chosen < 1u << free.size(); ++chosen) {
    if (static_cast<size_t>(std::popcount(chosen)) != width) continue;
    Sizes rest = free;
    bool possible = true;
    for (size_t i = 0; i < free.size(); ++i) {
      if ((chosen >> i & 1) == 0) continue;
      possible = possible && rest[i] > 0;
      --rest[i];
    }
    if (possible) most = std::max(most, 1 + most_rounds(rest, width, known));
  }
  return known[free] = most;
}

/// Fills the devices with chunks of about `length` bytes; returns the bytes of all chunks.
uint64_t fill(DeviceSpace& space, Profile profile, uint64_t length) {
  uint64_t made = 0;
  while (const auto placement = space.place(profile, length)) {
    const auto chunk = chunk_at(*placement, profile, made);
    const size_t columns = chunk->columns();
    REQUIRE(chunk->stripes.size() == columns * copies_of(profile));
    std::set<DeviceId> devices;
    for (const Stripe& stripe : chunk->stripes) devices.insert(stripe.device);
    REQUIRE(devices.size() == chunk->stripes.size());
    space.occupy(chunk);
    made += chunk->length;
  }
  return made;
}

TEST_CASE(
    "devices of any sizes are filled as far as any placement can: compared with brute force") {
  const Profile profile =
      GENERATE(Profile::raid1, Profile::raid0, Profile::raid1c3, Profile::raid1c4, Profile::raid10);
  INFO(name_of(profile));
  const size_t width = devices_needed(profile);
  const uint64_t columns = width / copies_of(profile);
  std::mt19937_64 random(7);
  std::map<Sizes, uint64_t> known;
  for (int round = 0; round < 150; ++round) {
    Sizes sizes(width - 1 + random() % 3);
    for (uint64_t& size : sizes) size = random() % 3 == 0 ? random() % 12 : random() % 5;
    CAPTURE(sizes);
    DeviceSpace space;
    for (size_t i = 0; i < sizes.size(); ++i) {
      space.set_end(DeviceId(i + 1), kFirstChunkOffset + sizes[i] * kMiB);
    }
    const uint64_t promised = space.potential(profile);
    REQUIRE(promised == most_rounds(sizes, width, known) * columns * kMiB);
    const uint64_t length = (1 + random() % 12) * kMiB;
    const uint64_t made = fill(space, profile, length);
    // Wider stripes can use a few units more.
    if (profile == Profile::raid0 || profile == Profile::raid10) {
      REQUIRE(made >= promised);
    } else {
      REQUIRE(made == promised);
    }
    REQUIRE(space.potential(profile) == 0);
  }
}

TEST_CASE("the same with free space in pieces, and with chunks that are long for the devices") {
  const Profile profile =
      GENERATE(Profile::raid1, Profile::raid0, Profile::raid1c3, Profile::raid10);
  INFO(name_of(profile));
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    DeviceSpace space;
    for (uint64_t id = 1; id <= 6; ++id) {
      const uint64_t size = 4 + random() % 60;
      space.set_end(DeviceId(id), kFirstChunkOffset + size * kMiB);
      for (uint64_t at = random() % 20; at < size; at += 1 + random() % 20) {
        space.occupy(test::make_chunk(Profile::single, 0, kMiB, {{id, 4 + at}}));
      }
    }
    const uint64_t promised = space.potential(profile);
    const uint64_t made = fill(space, profile, (1 + random() % 40) * kMiB);
    REQUIRE(made >= promised);
    REQUIRE(space.potential(profile) == 0);
  }
}

TEST_CASE("raid10 and raid0 are wide on equal devices, and narrow where width would waste space") {
  DeviceSpace equal;
  for (uint64_t id = 1; id <= 6; ++id) equal.set_end(DeviceId(id), 100 * kMiB);
  CHECK(equal.place(Profile::raid10, 12 * kMiB)->stripes.size() == 6);
  CHECK(equal.place(Profile::raid0, 12 * kMiB)->stripes.size() == 6);
  DeviceSpace unequal;
  for (uint64_t id = 1; id <= 6; ++id) {
    unequal.set_end(DeviceId(id), kFirstChunkOffset + (id <= 2 ? 10 : 1) * kMiB);
  }
  CHECK(unequal.potential(Profile::raid10) == 2 * 2 * kMiB);
  CHECK(unequal.place(Profile::raid10, 3 * kMiB)->stripes.size() == 4);
}

TEST_CASE("a chunk of full length is made where it costs nothing") {
  DeviceSpace space;
  for (const uint64_t id : {1, 2, 3}) space.set_end(DeviceId(id), kFirstChunkOffset + 900 * kMiB);
  CHECK(space.place(Profile::raid1, 64 * kMiB)->length == 64 * kMiB);
  unsigned chunks = 0;
  uint64_t made = 0;
  while (const auto placement = space.place(Profile::raid1, 64 * kMiB)) {
    space.occupy(chunk_at(*placement, Profile::raid1, made));
    made += placement->length;
    ++chunks;
  }
  CHECK(made == 1350 * kMiB);
  CHECK(chunks <= 30);  // 22 of full length
}

TEST_CASE("a device that is out takes chunks only where their profile needs it") {
  const uint64_t out = GENERATE(1, 2, 3);
  DeviceSpace space;
  for (const uint64_t id : {1, 2, 3, 4}) {
    // The one that is out has the most space.
    space.set_end(DeviceId(id), kFirstChunkOffset + (id == out ? 90 : 20 + id) * kMiB);
  }
  space.set_in(DeviceId(out), false);
  const auto devices_of = [&](Profile profile) {
    std::vector<DeviceId> devices;
    const auto placement = space.place(profile, 4 * kMiB);
    if (!placement) return devices;
    for (const auto& [device, offset] : placement->stripes) devices.push_back(device);
    return devices;
  };
  const auto uses_it = [&](Profile profile) {
    const auto devices = devices_of(profile);
    REQUIRE_FALSE(devices.empty());
    return std::count(devices.begin(), devices.end(), DeviceId(out)) > 0;
  };
  for (const Profile profile :
       {Profile::single, Profile::dup, Profile::raid0, Profile::raid1, Profile::raid1c3}) {
    INFO(name_of(profile));
    CHECK_FALSE(uses_it(profile));
  }
  CHECK(uses_it(Profile::raid1c4));
  CHECK(uses_it(Profile::raid10));

  // A second one is out.
  const uint64_t next = out % 4 + 1;
  space.set_in(DeviceId(next), false);
  CHECK_FALSE(uses_it(Profile::raid1));
  CHECK_FALSE(uses_it(Profile::raid0));
  CHECK(uses_it(Profile::raid1c3));
  CHECK(devices_of(Profile::raid1c4).size() == 4);
  const auto columns = devices_of(Profile::raid10);
  REQUIRE(columns.size() == 4);
  for (const size_t column : {0, 1}) {
    const auto is_in = [&](DeviceId id) { return id != DeviceId(out) && id != DeviceId(next); };
    CHECK((is_in(columns[2 * column]) || is_in(columns[2 * column + 1])));
  }

  // Only one is in.
  const uint64_t third = next % 4 + 1;
  space.set_in(DeviceId(third), false);
  const DeviceId left(third % 4 + 1);
  CHECK(devices_of(Profile::single) == std::vector{left});
  CHECK(devices_of(Profile::dup) == std::vector{left, left});
  CHECK(devices_of(Profile::raid0).empty());
  CHECK(devices_of(Profile::raid10).empty());
  for (const Profile profile : {Profile::raid1, Profile::raid1c3, Profile::raid1c4}) {
    const auto devices = devices_of(profile);
    REQUIRE(devices.size() == copies_of(profile));
    CHECK(std::count(devices.begin(), devices.end(), left) == 1);
  }

  // None is in.
  space.set_in(left, false);
  for (const Profile profile : kAllProfiles) {
    CHECK(devices_of(profile).empty());
    CHECK(space.potential(profile) == 0);
  }
  for (const uint64_t id : {1, 2, 3, 4}) space.set_in(DeviceId(id), true);
  CHECK(uses_it(Profile::single));
}

TEST_CASE("with devices out, too, chunks fill what potential() says") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    const Profile profile = kAllProfiles[random() % kAllProfiles.size()];
    INFO(name_of(profile));
    DeviceSpace space;
    const uint64_t count = 1 + random() % 6;
    for (uint64_t id = 1; id <= count; ++id) {
      space.set_end(DeviceId(id), kFirstChunkOffset + random() % 30 * kMiB);
      space.set_in(DeviceId(id), random() % 2 == 0);
    }
    const uint64_t promised = space.potential(profile), length = (1 + random() % 12) * kMiB;
    uint64_t made = 0;
    while (const auto placement = space.place(profile, length)) {
      const uint64_t after = space.potential_after(profile, *placement);
      space.occupy(chunk_at(*placement, profile, made));
      REQUIRE(space.potential(profile) == after);
      made += placement->length;
    }
    if (profile == Profile::raid0 || profile == Profile::raid10) {
      REQUIRE(made >= promised);
    } else {
      REQUIRE(made == promised);
    }
  }
}

TEST_CASE("left_over: what a profile cannot use on devices of different sizes") {
  DeviceSpace space;
  const auto add = [&](uint64_t id, uint64_t mib) {
    space.set_end(DeviceId(id), kFirstChunkOffset + mib * kMiB);
  };
  add(1, 100);
  add(2, 30);
  add(3, 20);
  const auto left = [&](Profile profile) {
    Sizes mib;
    for (const auto& [device, bytes] : space.left_over(profile)) mib.push_back(bytes / kMiB);
    return mib;
  };
  CHECK(left(Profile::single) == Sizes{0, 0, 0});
  CHECK(left(Profile::dup) == Sizes{0, 0, 0});
  CHECK(left(Profile::raid1) == Sizes{50, 0, 0});
  CHECK(left(Profile::raid1c3) == Sizes{80, 10, 0});
  CHECK(left(Profile::raid1c4) == Sizes{100, 30, 20});
  space.set_in(DeviceId(2), false);
  CHECK(left(Profile::raid1) == Sizes{50, 0, 0});
  CHECK(space.unallocated_on(DeviceId(2)) == 30 * kMiB);
  CHECK(space.usable_bytes_for(Profile::raid1) == 100 * kMiB);
  CHECK(space.usable_bytes_for(Profile::raid1c3) == 60 * kMiB);
  CHECK(space.usable_bytes_for(Profile::raid1c4) == 0);
}

TEST_CASE("potential_without: what mirrors can use when other chunks have taken space") {
  DeviceSpace space;
  for (const auto& [id, mib] : std::map<uint64_t, uint64_t>{{1, 100}, {2, 60}, {3, 20}}) {
    space.set_end(DeviceId(id), kFirstChunkOffset + mib * kMiB);
  }
  const auto mirrors = [&](Profile taken, uint64_t mib) {
    return space.potential_without(Profile::raid1, taken, mib * kMiB) / kMiB;
  };
  CHECK(mirrors(Profile::single, 0) == 80);
  CHECK(mirrors(Profile::single, 20) == 80);  // 80, 60, 20: device 1 had too much
  CHECK(mirrors(Profile::single, 40) == 70);  // 60, 60, 20
  CHECK(mirrors(Profile::raid1, 30) == 50);   // 70, 30, 20
  CHECK(mirrors(Profile::raid1, 80) == 0);
  CHECK(mirrors(Profile::raid1c3, 20) == 40);  // 80, 40, 0
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
    return space.potential_without(Profile::dup, Profile::single, mib * kMiB) / kMiB;
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
