// SPDX-License-Identifier: MIT
// Tests of Coverage: its life as README.md draws it, random lives against a naive model, decoding.
#include "replace/coverage.h"

#include <array>
#include <map>
#include <random>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;

namespace {

Generation gen(uint64_t g) {
  return Generation(g);
}
PhysicalOffset at(uint64_t o) {
  return PhysicalOffset(o);
}

/// One entry for each generation: how much of it is on the target. Grows without bound.
struct Model {
  static constexpr uint64_t kAll = ~uint64_t{0};
  std::map<uint64_t, uint64_t> up_to;
  uint64_t open_from = kAll;

  bool covers(uint64_t birth, uint64_t offset) const {
    if (birth >= open_from) return true;
    auto found = up_to.find(birth);
    return found != up_to.end() && offset < found->second;
  }
  void arm(uint64_t first) { open_from = first; }
  void disarm(uint64_t last) {
    for (uint64_t g = open_from; g <= last; ++g) up_to[g] = kAll;
    open_from = kAll;
  }
  void cursor_reached(uint64_t cursor) {
    for (uint64_t g = 0; g < open_from; ++g) up_to[g] = std::max(up_to[g], cursor);
  }
  uint64_t walk_start() const {
    uint64_t start = kAll;
    for (uint64_t g = 0; g < open_from; ++g) {
      auto found = up_to.find(g);
      start = std::min(start, found == up_to.end() ? 0 : found->second);
    }
    return start;
  }
};

std::vector<std::byte> encoded(const Coverage& coverage) {
  ByteWriter writer;
  coverage.encode(writer);
  return writer.take();
}

}  // namespace

TEST_CASE("the life of a coverage table") {
  Coverage c;
  REQUIRE(!c.open());
  REQUIRE(!c.covers(gen(5), at(0)));
  c.arm(gen(10));
  REQUIRE(c.open());
  REQUIRE(c.armed_since() == gen(10));
  REQUIRE(c.walk_start() == at(0));
  REQUIRE(c.covers(gen(10), at(1 << 30)));
  REQUIRE(!c.covers(gen(9), at(0)));
  c.cursor_reached(at(4096));
  REQUIRE(c.covers(gen(9), at(4095)));
  REQUIRE(!c.covers(gen(9), at(4096)));
  REQUIRE(c.describe() == "[0, 9]: up to 4096, [10, ...): all");
  REQUIRE(c.walk_start() == at(4096));
  REQUIRE(c.complete(at(4096)));
  REQUIRE(!c.complete(at(4097)));
  c.disarm(gen(12));
  REQUIRE(!c.open());
  REQUIRE(!c.complete(at(0)));
  REQUIRE(c.covers(gen(12), at(1 << 30)));
  REQUIRE(!c.covers(gen(13), at(0)));
  c.arm(gen(15));
  REQUIRE(c.walk_start() == at(0));
  REQUIRE(!c.covers(gen(14), at(0)));
  c.cursor_reached(at(100));
  REQUIRE(c.describe() == "[0, 9]: up to 4096, [10, 12]: all, [13, 14]: up to 100, [15, ...): all");
  c.cursor_reached(at(8192));
  REQUIRE(c.covers(gen(3), at(5000)));
  REQUIRE(c.complete(at(8192)));
}

TEST_CASE("duplication that breaks before anything of it is durable covers nothing") {
  Coverage c;
  c.arm(gen(10));
  c.disarm(gen(9));
  REQUIRE(c.intervals().empty());
}

TEST_CASE("random lives agree with a table of single generations") {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    auto below = [&](uint64_t n) { return random() % n; };
    Coverage c;
    Model m;
    uint64_t generation = 1, durable = 0, cursor = 0;
    for (int step = 0; step < 60; ++step) {
      generation += below(4);
      if (!c.open()) {
        ++generation;
        c.arm(gen(generation));
        m.arm(generation);
        cursor = 0;
      } else if (below(4) == 0) {
        durable = std::max(durable, generation - std::min<uint64_t>(generation, 1 + below(3)));
        durable = std::max(durable, c.armed_since().value - 1);
        c.disarm(gen(durable));
        m.disarm(durable);
        generation = std::max(generation, durable) + 1;
      } else {
        cursor += below(50);
        c.cursor_reached(at(cursor));
        m.cursor_reached(cursor);
      }
      INFO("seed " << seed << " step " << step << ": " << c.describe());
      for (uint64_t g = 0; g < generation + 3; ++g) {
        for (uint64_t o :
             {uint64_t{0}, cursor - std::min<uint64_t>(cursor, 1), cursor, below(500)}) {
          REQUIRE(c.covers(gen(g), at(o)) == m.covers(g, o));
        }
      }
      if (c.open()) REQUIRE(c.walk_start() == at(m.walk_start()));
      const auto bytes = encoded(c);
      ByteReader reader(bytes);
      REQUIRE(Coverage::decode(reader).value() == c);
      REQUIRE(reader.at_end());
    }
  }
}

TEST_CASE("a thousand suspensions fit, and claim no more than is true") {
  Coverage c;
  Model m;
  uint64_t g = 10;
  for (int i = 0; i < 1000; ++i) {
    c.arm(gen(g));
    m.arm(g);
    c.cursor_reached(at(10000 - 7 * static_cast<uint64_t>(i)));
    m.cursor_reached(10000 - 7 * static_cast<uint64_t>(i));
    c.disarm(gen(g + 2));
    m.disarm(g + 2);
    g += 5;
  }
  REQUIRE(c.intervals().size() <= Coverage::kMaxIntervals);
  for (uint64_t birth = 0; birth < g + 5; ++birth) {
    for (uint64_t o : {0u, 3000u, 9999u}) {
      if (c.covers(gen(birth), at(o))) REQUIRE(m.covers(birth, o));
    }
  }
  REQUIRE(c.covers(gen(5), at(9999)));
  REQUIRE(c.covers(gen(g - 4), at(9999)));
}

TEST_CASE("holes keep a target from being complete until their loss is accepted") {
  Coverage c;
  c.arm(gen(5));
  c.cursor_reached(at(1 << 20));
  REQUIRE(c.complete(at(1 << 20)));
  c.add_hole({{at(8192), 4096}, 1, false});
  c.add_hole({{at(65536), 16384}, 1, false});
  REQUIRE(c.lost_blocks() == 2);
  REQUIRE(!c.complete(at(1 << 20)));
  c.accept_holes(true);
  REQUIRE(c.complete(at(1 << 20)));
  c.add_hole({{at(4096), 4096}, 1, false});  // a neighbour: one hole, which is not accepted
  REQUIRE(c.holes().size() == 2);
  REQUIRE(c.holes()[0].range == PhysicalRange{at(4096), 8192});
  REQUIRE(!c.complete(at(1 << 20)));
  const PhysicalRange left{at(8192), 4096};
  c.read_again(c.holes()[0].range, {&left, 1});
  REQUIRE(c.holes()[0].range == left);
  c.read_again(left, {});
  c.read_again({at(65536), 16384}, {});
  REQUIRE(c.holes().empty());
  REQUIRE(c.complete(at(1 << 20)));
  REQUIRE(c.duplicated().intervals().size() == 1);
}

TEST_CASE("the number of holes is limited; every block stays in one") {
  std::mt19937 random(7);
  Coverage c;
  std::vector<PhysicalOffset> blocks;
  for (int i = 0; i < 5000; ++i) {
    blocks.push_back(at((random() % 1000000) * 4096));
    c.add_hole({{blocks.back(), 4096}, 1, false});
    REQUIRE(c.holes().size() <= Coverage::kMaxHoles);
  }
  for (size_t i = 1; i < c.holes().size(); ++i) {
    REQUIRE(c.holes()[i - 1].range.end() < c.holes()[i].range.start);
  }
  for (const PhysicalOffset block : blocks) {
    REQUIRE(std::any_of(c.holes().begin(), c.holes().end(), [&](const Coverage::Hole& hole) {
      return hole.range.start <= block && block < hole.range.end();
    }));
  }
  ByteWriter writer;
  c.encode_holes(writer);
  const auto bytes = writer.take();
  ByteReader reader(bytes);
  Coverage read;
  REQUIRE(read.decode_holes(reader));
  REQUIRE(read == c);
}

TEST_CASE("decoding refuses invalid holes") {
  const auto decode = [](std::vector<std::array<uint64_t, 4>> holes) {
    ByteWriter writer;
    writer.u16(static_cast<uint16_t>(holes.size()));
    for (const auto& [start, length, blocks, accepted] : holes) {
      writer.u64(start);
      writer.u64(length);
      writer.u32(static_cast<uint32_t>(blocks));
      writer.u8(static_cast<uint8_t>(accepted));
    }
    const auto bytes = writer.take();
    ByteReader reader(bytes);
    Coverage coverage;
    return coverage.decode_holes(reader).has_value();
  };
  REQUIRE(decode({{4096, 8192, 2, 0}, {16384, 4096, 1, 1}}));
  REQUIRE(!decode({{4096, 0, 1, 0}}));
  REQUIRE(!decode({{4097, 4096, 1, 0}}));
  REQUIRE(!decode({{4096, 4096, 0, 0}}));
  REQUIRE(!decode({{4096, 4096, 2, 0}}));
  REQUIRE(!decode({{4096, 4096, 1, 2}}));
  REQUIRE(!decode({{4096, 8192, 1, 0}, {8192, 4096, 1, 0}}));
  REQUIRE(!decode({{UINT64_MAX - 4095, 8192, 1, 0}}));
}

TEST_CASE("decoding refuses invalid tables, and never crashes") {
  auto decode = [](std::vector<Coverage::Interval> intervals) {
    ByteWriter writer;
    writer.u16(static_cast<uint16_t>(intervals.size()));
    for (const auto& i : intervals) {
      writer.u64(i.first.value);
      writer.u64(i.last.value);
      writer.u8(i.all);
      writer.u64(i.up_to.value);
    }
    const auto bytes = writer.take();
    ByteReader reader(bytes);
    return Coverage::decode(reader).has_value();
  };
  REQUIRE(decode({{gen(0), gen(5), false, at(7)}, {gen(6), kOpenEnd, true, at(0)}}));
  REQUIRE(!decode({{gen(6), gen(5), false, at(7)}}));
  REQUIRE(!decode({{gen(0), gen(5), false, at(7)}, {gen(5), gen(9), true, at(0)}}));
  REQUIRE(!decode({{gen(0), kOpenEnd, false, at(7)}}));
  REQUIRE(!decode({{gen(0), gen(5), true, at(7)}}));
  REQUIRE(!decode({{gen(0), kOpenEnd, true, at(0)}, {gen(5), gen(9), true, at(0)}}));

  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::vector<std::byte> bytes(random() % 80);
    for (auto& b : bytes) b = static_cast<std::byte>(random() % 4 == 0 ? random() : 0);
    if (bytes.size() >= 2) bytes[1] = std::byte{0};
    ByteReader reader(bytes);
    auto c = Coverage::decode(reader);
    if (c) (void)c.value().covers(gen(random()), at(random()));
  }
}

TEST_CASE("a table with more gaps than arming leaves is filled, and claims no more than before") {
  ByteWriter writer;
  const unsigned count = Coverage::kMaxIntervals - 1;
  writer.u16(count);
  for (unsigned i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    writer.u64(2 * i + 1);
    writer.u64(last ? kOpenEnd.value : 2 * i + 1);
    writer.u8(1);
    writer.u64(0);
  }
  const std::vector<std::byte> bytes = writer.take();
  ByteReader reader(bytes);
  Coverage coverage = Coverage::decode(reader).value();
  const Coverage before = coverage;
  coverage.cursor_reached(at(4096));
  CHECK(coverage.intervals().size() <= Coverage::kMaxIntervals);
  (void)encoded(coverage);
  CHECK(coverage.open());
  for (uint64_t g = 0; g < 2 * count; ++g) {
    CHECK(coverage.covers(gen(g), at(0)));  // the cursor has passed it
    if (coverage.covers(gen(g), at(4096))) CHECK(before.covers(gen(g), at(4096)));
  }
  CHECK(coverage.covers(gen(1), at(4096)));
}
