// SPDX-License-Identifier: MIT
// Tests of Walk: every byte of the extents is in exactly one window; the cursor; what remains.
#include "replace/walk.h"

#include <random>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;

namespace {

alloc::DeviceExtent extent(uint64_t start, uint64_t length, uint64_t logical) {
  auto chunk = std::make_shared<alloc::Chunk>();
  chunk->start = LogicalOffset(logical);
  chunk->length = length;
  chunk->stripes.push_back({DeviceId(1), PhysicalOffset(start), Generation(1)});
  return {chunk, 0, {PhysicalOffset(start), length}};
}

uint64_t half_used(LogicalOffset) {
  return 32 * kNodeSize;
}

}  // namespace

TEST_CASE("windows cover the extents; the cursor follows the slowest window") {
  constexpr uint64_t N = kNodeSize;
  Walk walk({extent(100 * N, 64 * N, 0), extent(200 * N, 10 * N, 64 * N)}, PhysicalOffset(),
            PhysicalOffset(1000 * N), 30 * N, half_used);
  REQUIRE(walk.cursor() == PhysicalOffset(100 * N));
  REQUIRE(walk.remaining_bytes(half_used) == 42 * N);
  auto a = *walk.next(), b = *walk.next(), c = *walk.next(), d = *walk.next();
  REQUIRE(a == PhysicalRange{PhysicalOffset(100 * N), 30 * N});
  REQUIRE(c == PhysicalRange{PhysicalOffset(160 * N), 4 * N});
  REQUIRE(d == PhysicalRange{PhysicalOffset(200 * N), 10 * N});
  REQUIRE(!walk.next());
  REQUIRE(walk.exhausted());
  REQUIRE(walk.started_right() == PhysicalOffset(210 * N));
  walk.finished(b, 8 * N, 5 * N);
  walk.finished(d, 10 * N, 10 * N);
  REQUIRE(walk.cursor() == PhysicalOffset(100 * N));
  REQUIRE(walk.copied_bytes() == 15 * N);
  REQUIRE(walk.copied_left() == 0);
  REQUIRE(walk.in_flight_bytes() == 34 * N);
  REQUIRE(walk.remaining_bytes(half_used) == 24 * N);
  // Users have deleted most of the first chunk.
  REQUIRE(walk.remaining_bytes([](LogicalOffset) { return 10 * kNodeSize; }) == 2 * N);
  walk.finished(a, 20 * N, N);
  REQUIRE(walk.cursor() == PhysicalOffset(160 * N));
  REQUIRE(walk.copied_left() == 6 * N);
  REQUIRE(!walk.complete());
  walk.finished(c, 0, 0);
  REQUIRE(walk.complete());
  REQUIRE(walk.cursor() == PhysicalOffset(1000 * N));
  REQUIRE(walk.copied_left() == 16 * N);
  REQUIRE(walk.remaining_bytes(half_used) == 0);
}

TEST_CASE("a walk from the middle of an extent, and a walk over nothing") {
  constexpr uint64_t N = kNodeSize;
  Walk walk({extent(0, 50 * N, 0), extent(100 * N, 64 * N, 64 * N)}, PhysicalOffset(132 * N),
            PhysicalOffset(1000 * N), 30 * N, half_used);
  REQUIRE(walk.cursor() == PhysicalOffset(132 * N));
  REQUIRE(walk.remaining_bytes(half_used) == 16 * N);
  REQUIRE(*walk.next() == PhysicalRange{PhysicalOffset(132 * N), 28 * N});
  Walk none({extent(0, 50 * N, 0)}, PhysicalOffset(50 * N), PhysicalOffset(60 * N), N, half_used);
  REQUIRE(none.complete());
  REQUIRE(none.cursor() == PhysicalOffset(60 * N));
}

TEST_CASE("random orders: the cursor never passes an unfinished window and never goes back") {
  for (unsigned seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    std::vector<alloc::DeviceExtent> extents;
    uint64_t at = 0, total = 0;
    for (unsigned i = 0; i < 5; ++i) {
      at += random() % 5 * kNodeSize;
      const uint64_t length = (1 + random() % 20) * kNodeSize;
      extents.push_back(extent(at, length, at));
      at += length;
      total += length;
    }
    Walk walk(extents, PhysicalOffset(), PhysicalOffset(at), (1 + random() % 6) * kNodeSize,
              half_used);
    std::vector<PhysicalRange> in_flight;
    PhysicalOffset cursor, last_end;
    uint64_t covered = 0;
    while (!walk.complete()) {
      if (random() % 2 == 0 && in_flight.size() < 4) {
        const uint64_t at_most = random() % 2 == 0 ? UINT64_MAX : (1 + random() % 6) * kNodeSize;
        if (auto window = walk.next(at_most)) {
          REQUIRE(window->start >= last_end);
          REQUIRE(window->length <= at_most);
          REQUIRE(window->length % kNodeSize == 0);
          last_end = window->end();
          covered += window->length;
          in_flight.push_back(*window);
        }
      } else if (!in_flight.empty()) {
        const auto one = in_flight.begin() + static_cast<long>(random() % in_flight.size());
        walk.finished(*one, 0, one->length);
        in_flight.erase(one);
      }
      REQUIRE(walk.cursor() >= cursor);
      cursor = walk.cursor();
      for (const auto& window : in_flight) REQUIRE(cursor <= window.start);
    }
    REQUIRE(covered == total);
    REQUIRE(walk.copied_left() == total);
  }
}
