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

/// A request stores bytes from the cache. False: it must not.
bool store(SpaceReservations& space, uint64_t ino, uint64_t bytes, uint64_t free = UINT64_MAX / 2) {
  const auto begun = space.begin_store(ino, bytes, free);
  if (begun) space.end_store(*begun);
  return begun.has_value();
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

TEST_CASE("bytes that are written back end the reservations of their file") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  CHECK(store(space, kFile, 4096));
  CHECK(space.reserved_bytes() == 2 * kBytes - 4096);
  CHECK(store(space, kFile, kBytes));
  CHECK(space.reserved_bytes() == kBytes);
}

TEST_CASE("bytes count as reserved until their request has ended") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  const auto begun = space.begin_store(kFile, 4096, 0);
  REQUIRE(begun);
  CHECK(space.reserved_bytes() == kBytes);
  space.end_store(*begun);
  CHECK(space.reserved_bytes() == kBytes - 4096);
}

TEST_CASE("while some bytes are unknown, a write-back of bytes ends no reservation") {
  SpaceReservations space;
  space.begin(2 * kBytes, kStart);
  REQUIRE(space.reserve(kFile, kStalled, UINT64_MAX, kStored));
  CHECK(store(space, kFile, kBytes, 0));  // written before space was low
  CHECK(space.reserved_bytes() == 3 * kBytes);
  CHECK_FALSE(write_back(space, kStored, {kFile}));
  CHECK(space.reserved_bytes() == kBytes);
  CHECK(store(space, kFile, kBytes, 0));  // those of the write that stalled
  CHECK(space.reserved_bytes() == 0);
}

TEST_CASE("G4: bytes that nobody reserved need space beside what is reserved") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  CHECK_FALSE(store(space, kFile, kBytes + 4096, 2 * kBytes + 4095));
  CHECK(space.reserved_bytes() == 2 * kBytes);
  CHECK(store(space, kFile, kBytes + 4096, 2 * kBytes + 4096));
  CHECK(space.reserved_bytes() == kBytes);
  CHECK_FALSE(store(space, kFile, 1, kBytes));
  CHECK(store(space, kOther, 1, 0));
}

TEST_CASE("G4: more than all that is reserved and unknown is not covered by what is unknown") {
  SpaceReservations space;
  space.begin(10000, kStart);
  CHECK(store(space, kFile, 6000, 0));
  CHECK(store(space, kOther, 4000, 0));
  CHECK_FALSE(store(space, kFile, 1, 10000));
  CHECK(store(space, kFile, 1, 10001));
  // The bytes of a file that is closed are not held against others.
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  CHECK(store(space, kFile, kBytes, 0));
  space.closed(kFile);
  CHECK_FALSE(store(space, kOther, 1, 0));
  // What is unknown after a write-back is so anew.
  space.begin(10000, kStored);
  CHECK(store(space, kOther, 10000, 0));
}

TEST_CASE("G4: a direct write uses the reservation of its own thread, again and again") {
  SpaceReservations space;
  const auto store_directly = [&](pid_t thread, uint64_t free, Nanoseconds now = kStart) {
    const auto begun = space.begin_direct_store(kFile, thread, kMaxWriteBytes, free, now);
    if (begun) space.end_store(*begun);
    return begun.has_value();
  };
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kStalled, UINT64_MAX, kStart));
  const uint64_t enough = kBytes + kMaxWriteBytes;
  CHECK(store_directly(kWriter, enough));
  CHECK(space.reserved_bytes() == 2 * kBytes);
  CHECK(store_directly(kWriter, enough));
  CHECK_FALSE(store_directly(kWriter, enough - 1));
  CHECK_FALSE(store_directly(kStalled, enough));
  CHECK_FALSE(store_directly(kWriter, enough, kStored));
}

TEST_CASE("a file that is closed keeps no reservation") {
  SpaceReservations space;
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kFile, kWriter, UINT64_MAX, kStart));
  REQUIRE(space.reserve(kOther, kWriter, UINT64_MAX, kStart));
  space.closed(kFile);
  CHECK(space.reserved_bytes() == kBytes);
  // Also in the middle of a write-back. After that no write is storing.
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
