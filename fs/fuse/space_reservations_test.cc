// SPDX-License-Identifier: MIT
// How reservations of space begin and end.
#include "fs/fuse/space_reservations.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kBytes = SpaceReservations::kBytes;
constexpr uint64_t kFile = 20, kOther = 21;
constexpr pid_t kWriter = 100, kStalled = 101;
constexpr Nanoseconds kStart = 5s;
/// When nothing that began at kStart may still be storing.
constexpr Nanoseconds kStored = kStart + SpaceReservations::kStoringFor;

/// One write-back that ends before anything else happens.
bool write_back(SpaceReservations& space, Nanoseconds now, const std::vector<uint64_t>& open = {}) {
  const auto begun = space.begin_write_back(open, now);
  space.end_write_back(begun);
  return begun.is_complete;
}

}  // namespace

TEST_CASE("a reservation fits if all others and the unknown bytes leave room for it") {
  SpaceReservations space;
  CHECK_FALSE(space.reserve(kFile, kWriter, kBytes - 1, kStart));
  CHECK(space.reserved_bytes() == 0);
  CHECK(space.reserve(kFile, kWriter, kBytes, kStart));
  CHECK(space.reserved_bytes() == kBytes);
  CHECK_FALSE(space.reserve(kOther, kWriter, 2 * kBytes - 1, kStart));
  CHECK(space.reserve(kOther, kWriter, 2 * kBytes, kStart));

  SpaceReservations low;
  low.begin(7 << 20, kStart);
  CHECK(low.reserved_bytes() == 7 << 20);
  CHECK_FALSE(low.reserve(kFile, kWriter, (7 << 20) + kBytes - 1, kStart));
  CHECK(low.reserve(kFile, kWriter, (7 << 20) + kBytes, kStart));
}

TEST_CASE("a write of the longest length fits into its reservation wherever it begins") {
  // Its first and its last block may be written only in part, but take space as a whole.
  const uint64_t offset = kBlockSize - 1;
  const uint64_t blocks =
      round_up(offset + kMaxWriteBytes, kBlockSize) - round_down(offset, kBlockSize);
  CHECK(blocks <= kBytes);
}

TEST_CASE("bytes that come end the reservations of their file, then what is unknown") {
  SpaceReservations space;
  space.begin(10000, kStart);
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  space.written(kFile, 4096);
  CHECK(space.reserved_bytes() == 2 * kBytes - 4096 + 10000);
  space.written(kFile, kBytes);
  CHECK(space.reserved_bytes() == kBytes + 10000 - 4096);
  space.written(kFile, 1 << 20);
  CHECK(space.reserved_bytes() == kBytes);
  CHECK_FALSE(space.has_unknown());
}

TEST_CASE("a file that is closed keeps no reservation") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  space.closed(kFile);
  CHECK(space.reserved_bytes() == kBytes);
  // In the middle of a write-back, too; and nobody is storing any more.
  const auto begun = space.begin_write_back({}, kStart);
  CHECK_FALSE(begun.is_complete);
  space.closed(kOther);
  space.end_write_back(begun);
  CHECK(space.reserved_bytes() == 0);
  CHECK(write_back(space, kStart));
}

TEST_CASE("a write-back ends the reservations made before it, and no later ones") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  space.write_ended(kWriter, kFile, kStart);
  const auto begun = space.begin_write_back({}, kStart);
  CHECK(begun.inodes == std::vector<uint64_t>{kFile});
  CHECK(begun.is_complete);
  CHECK(space.reserved_bytes() == kBytes);  // its bytes may come until the write-back has ended
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  space.end_write_back(begun);
  CHECK(space.reserved_bytes() == 2 * kBytes);
}

TEST_CASE("G2: a write-back does not end the reservation of a write that may still be storing") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kStalled, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  space.write_ended(kWriter, kOther, kStart);
  CHECK_FALSE(write_back(space, kStored - 1ns));
  CHECK(space.reserved_bytes() == kBytes);
  CHECK_FALSE(write_back(space, kStored - 1ns));  // again and again
  CHECK(space.reserved_bytes() == kBytes);
  CHECK(write_back(space, kStored));
  CHECK(space.reserved_bytes() == 0);
}

TEST_CASE("G2: of a thread only its newest write may be storing") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  space.write_ended(kWriter, kFile, kStart);
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  CHECK_FALSE(write_back(space, kStart));
  CHECK(space.reserved_bytes() == kBytes);
  space.write_ended(kWriter, kOther, kStart);  // it asks for another file
  CHECK(write_back(space, kStart));
  CHECK(space.reserved_bytes() == 0);
}

TEST_CASE("G2: of threads without a number the newest write of each file may be storing") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, 0, UINT64_MAX, kStart));
  space.write_ended(0, kOther, kStart);
  REQUIRE(space.reserve(kOther, 0, UINT64_MAX, kStart));
  CHECK_FALSE(write_back(space, kStart));
  CHECK(space.reserved_bytes() == 2 * kBytes);
  space.write_ended(0, kFile, kStart);
  CHECK_FALSE(write_back(space, kStart));
  CHECK(space.reserved_bytes() == kBytes);
}

TEST_CASE("what is unknown is written back with all open files") {
  SpaceReservations space;
  space.begin(64 << 20, kStart);
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  space.write_ended(kWriter, kFile, kStart);
  const std::vector<uint64_t> open = {kFile, kOther, 22};
  const auto begun = space.begin_write_back(open, kStored - 1ns);
  CHECK(begun.inodes == open);
  // One write of each may have begun before space was low, and still be storing.
  CHECK_FALSE(begun.is_complete);
  space.end_write_back(begun);
  CHECK(space.reserved_bytes() == open.size() * kBytes);
  CHECK(write_back(space, kStored, open));
  CHECK(space.reserved_bytes() == 0);
  CHECK_FALSE(space.has_unknown());
}

TEST_CASE("a write-back never makes the unknown bytes more") {
  SpaceReservations space;
  space.begin(100, kStart);
  write_back(space, kStart, {kFile, kOther});
  CHECK(space.reserved_bytes() == 100);
}

TEST_CASE("a write-back that began before space became low again does not end what is unknown") {
  SpaceReservations space;
  space.begin(5000, kStart);
  const auto begun = space.begin_write_back({kFile}, kStored);
  CHECK(begun.is_complete);
  space.begin(5000, kStored + 1ns);
  space.end_write_back(begun);
  CHECK(space.reserved_bytes() == 5000);
}

TEST_CASE("G3: while an operation takes space nothing can be reserved") {
  SpaceReservations space;
  space.set_blocked(true);
  CHECK_FALSE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  space.set_blocked(false);
  CHECK(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
}
