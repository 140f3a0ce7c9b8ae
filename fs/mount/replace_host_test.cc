// SPDX-License-Identifier: MIT
// What ReplaceHost tells the replace engine about allocated data and nodes.
#include "fs/mount/replace_host.h"

#include "fs/content/content_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

std::vector<LogicalRange> chunks_of(TestFiles& world, alloc::ChunkKind kind) {
  std::vector<LogicalRange> ranges;
  for (const auto& chunk : world.volume->mapper().current()->chunks()) {
    if (chunk->kind == kind) ranges.push_back(chunk->range());
  }
  return ranges;
}

std::vector<std::byte> bytes_at(TestFiles& world, LogicalRange range) {
  AlignedBuffer buffer(range.length);
  const auto guard = world.volume->acquire_map();
  REQUIRE(world.volume->read(guard, range.start, buffer.span(), 0));
  return {buffer.data(), buffer.data() + buffer.size()};
}

}  // namespace

TEST_CASE("allocated data is listed with its checksums, clipped to the range") {
  TestFiles world;
  RequestLoad load(world.runtime);
  ReplaceHost host(*world.transactions, *world.filesystem, load);
  const InodeNumber ino = world.make_file("a");
  std::mt19937_64 random(1);
  world.write(ino, 0, random_bytes(random, 10 * kBlockSize));
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::allocate, 1 << 20, 1 << 20, true));
  const Generation born = host.running();
  REQUIRE(host.commit());
  CHECK(host.running() > born);

  uint64_t total = 0;
  LogicalRange found;
  for (const LogicalRange& chunk : chunks_of(world, alloc::ChunkKind::data)) {
    const auto extents = host.allocated_in(chunk);
    REQUIRE(extents);
    for (const auto& extent : extents.value()) {
      total += extent.length;
      found = {extent.start, extent.length};
      uint64_t bad = 0;
      auto bytes = bytes_at(world, found);
      CHECK(host.matches(extent, bytes, bad));
      bytes[5000] ^= std::byte{1};
      CHECK_FALSE(host.matches(extent, bytes, bad));
      CHECK(bad == 4096);
      CHECK(extent.birth == born);
      CHECK(host.name_of(extent) == "/a at 0");
    }
  }
  REQUIRE(total == 10 * kBlockSize);  // nothing unwritten
  REQUIRE(found.length == total);

  const LogicalRange middle{found.start + 2 * kBlockSize, 3 * kBlockSize};
  const auto part = host.allocated_in(middle).value();
  REQUIRE(part.size() == 1);
  CHECK(part[0].start == middle.start);
  CHECK(part[0].length == middle.length);
  CHECK(part[0].file_offset == 2 * kBlockSize);
  uint64_t bad = 0;
  CHECK(host.matches(part[0], bytes_at(world, middle), bad));
  CHECK(host.allocated_in({LogicalOffset{uint64_t{1} << 50}, kBlockSize}).value().empty());
}

TEST_CASE("nodes are listed and verified") {
  TestFiles world;
  RequestLoad load(world.runtime);
  ReplaceHost host(*world.transactions, *world.filesystem, load);
  for (int i = 0; i < 200; ++i) world.make_file("file" + std::to_string(i));
  REQUIRE(host.commit());
  size_t count = 0;
  for (const LogicalRange& chunk : chunks_of(world, alloc::ChunkKind::metadata)) {
    const auto nodes = host.allocated_in(chunk);
    REQUIRE(nodes);
    for (const auto& node : nodes.value()) {
      ++count;
      REQUIRE(node.is_node);
      REQUIRE(node.length == kNodeSize);
      uint64_t bad = 0;
      auto bytes = bytes_at(world, {node.start, node.length});
      CHECK(host.matches(node, bytes, bad));
      bytes[100] ^= std::byte{1};
      CHECK_FALSE(host.matches(node, bytes, bad));
      CHECK_FALSE(host.name_of(node).empty());
    }
  }
  CHECK(count >= 3);
}
