// SPDX-License-Identifier: MIT
// Chunk lookups and the pieces of stripes, for every profile.
#include "alloc/disk/chunk.h"

#include "alloc/space/map.h"
#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

TEST_CASE("find_chunk finds the chunk that contains an address, and none between chunks") {
  ChunkList chunks;
  for (uint64_t start : {10, 20, 40}) {
    chunks.push_back(test::make_chunk(Profile::single, start * test::kMiB, 10 * test::kMiB));
  }
  auto start_of = [&](uint64_t at) {
    const Chunk* chunk = find_chunk(chunks, LogicalOffset(at));
    return chunk ? chunk->start.value / test::kMiB : 0;
  };
  CHECK(start_of(0) == 0);
  CHECK(start_of(10 * test::kMiB) == 10);
  CHECK(start_of(20 * test::kMiB - 1) == 10);
  CHECK(start_of(20 * test::kMiB) == 20);
  CHECK(start_of(30 * test::kMiB) == 0);
  CHECK(start_of(50 * test::kMiB - 1) == 40);
  CHECK(start_of(50 * test::kMiB) == 0);
  CHECK(find_chunk({}, LogicalOffset(0)) == nullptr);
}

TEST_CASE("names of profiles are read back, other words are not") {
  for (const Profile profile : kAllProfiles) CHECK(profile_named(name_of(profile)) == profile);
  for (const char* other : {"", "raid", "raid5", "RAID1", "raid1 ", "unknown"}) {
    CHECK_FALSE(profile_named(other));
  }
}

TEST_CASE("a profile has as many copies as devices it may lose, and one more") {
  for (const Profile profile : kAllProfiles) {
    INFO(name_of(profile));
    if (profile != Profile::dup) CHECK(copies_of(profile) == losses_survived(profile) + 1);
    CHECK(devices_needed(profile) > losses_survived(profile));
  }
  CHECK(losses_survived(Profile::dup) == 0);
  CHECK(copies_of(Profile::raid1c3) == 3);
  CHECK(copies_of(Profile::raid1c4) == 4);
}

TEST_CASE("device_extents lists the stripes on one device in their order there") {
  ChunkList chunks = {test::make_chunk(Profile::raid1, 0, test::kMiB, {{1, 9}, {2, 5}}),
                      test::make_chunk(Profile::dup, test::kMiB, test::kMiB, {{1, 7}, {1, 30}})};
  auto extents = device_extents(chunks, DeviceId(1));
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].range == PhysicalRange{PhysicalOffset(7 * test::kMiB), test::kMiB});
  CHECK(extents[0].chunk == chunks[1]);
  CHECK(extents[1].chunk == chunks[0]);
  CHECK(extents[1].stripe_index == 0);
  CHECK(extents[2].stripe_index == 1);
  CHECK(device_extents(chunks, DeviceId(3)).empty());
}

TEST_CASE("pieces_of_stripe is the inverse of the mapper, for every profile") {
  for (const auto& chunk : test::chunks_of_all_profiles()) {
    INFO(name_of(chunk->profile));
    auto chunks = std::make_shared<ChunkList>(ChunkList{chunk});
    Map map(chunks, test::four_devices(), std::nullopt);
    for (uint32_t i = 0; i < chunk->stripes.size(); ++i) {
      const Stripe& stripe = chunk->stripes[i];
      // A range that begins before the stripe and ends in the middle of a unit.
      const PhysicalRange range{stripe.offset - 8192, 8192 + chunk->stripe_length() - 20480};
      uint64_t covered = 0;
      for (const ChunkPiece& piece : pieces_of_stripe(*chunk, i, range)) {
        CHECK(piece.physical == stripe.offset + covered);
        covered += piece.length;
        auto segments = map.for_read({piece.logical, piece.length}, i % chunk->copies);
        REQUIRE(segments);
        REQUIRE(segments.value().size() == 1);
        CHECK(segments.value()[0].devid == stripe.device);
        CHECK(segments.value()[0].offset == piece.physical);
        CHECK(segments.value()[0].length == piece.length);
      }
      CHECK(covered == chunk->stripe_length() - 20480);
      CHECK(pieces_of_stripe(*chunk, i, {PhysicalOffset(0), 4096}).empty());
    }
  }
}

}  // namespace
}  // namespace moltfs::alloc
