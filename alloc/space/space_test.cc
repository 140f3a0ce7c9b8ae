// SPDX-License-Identifier: MIT
// Space: a full volume, the reserves, tiny and huge volumes, waiting, lazy loading, freezing.
#include "alloc/space/space.h"

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <random>

#include "alloc/base/log.h"
#include "alloc/disk/superblock.h"
#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

using test::kGiB;
using test::kMiB;

/// A new volume with the root nodes of its trees.
struct Volume {
  Volume(std::vector<uint64_t> sizes, uint64_t chunk_size, Profile data = Profile::single,
         Profile metadata = Profile::dup)
      : mapper(test::make_mapper(runtime, sizes)),
        space(runtime, *mapper, geometry_of(sizes, chunk_size, data, metadata),
              LogicalOffset(kMiB)) {
    auto reservation = space.reserve_nodes(2, ReserveClass::normal, running);
    REQUIRE(reservation);
    for (int i = 0; i < 2; ++i) nodes.push_back(space.allocate_node(reservation.value(), running));
    commit();
  }
  static Space::Geometry geometry_of(const std::vector<uint64_t>& sizes, uint64_t chunk_size,
                                     Profile data, Profile metadata) {
    auto geometry = test::make_geometry(sizes, chunk_size);
    geometry.data_profile = data;
    geometry.metadata_profile = metadata;
    return geometry;
  }
  Space::Sealed commit() {
    space.usage_is_recorded(space.usage_changes());
    auto sealed = space.seal(running);
    ++running;
    space.committed(sealed);
    return sealed;
  }
  /// Data until no_space, commits tried; returns the bytes.
  uint64_t fill(ReserveClass reserve_class = ReserveClass::reclaiming) {
    uint64_t bytes = 0;
    while (true) {
      auto range = space.allocate_data(kMiB, running, reserve_class);
      if (!range) {
        REQUIRE(range.error() == Errc::no_space);
        return bytes;
      }
      space.record_data(range.value());
      extents.push_back({range.value(), running});
      bytes += range.value().length;
    }
  }
  void free_all() {
    for (const auto& [range, birth] : extents) space.free_data(range, birth, running);
    extents.clear();
  }

  test::ScriptedRuntime runtime;
  Generation running{1};
  std::unique_ptr<Mapper> mapper;
  Space space;
  std::vector<LogicalOffset> nodes;
  std::vector<std::pair<LogicalRange, Generation>> extents;
};

TEST_CASE("a tiny volume is mostly for data, and deleting works when it is full") {
  Volume v({64 * kMiB}, 8 * kMiB);
  CHECK(v.space.usage().available_bytes > 50 * kMiB);
  const uint64_t promised = v.space.usage().available_bytes;
  const uint64_t filled = v.fill(ReserveClass::normal);
  CHECK(filled > 50 * kMiB);
  CHECK(filled <= promised);
  CHECK(filled + 2 * kMiB >= promised);
  CHECK(v.space.usage().available_bytes < kMiB);

  // Only the reserve is left: normal operations fail, reclaiming ones go on, many times.
  while (v.space.reserve_nodes(1, ReserveClass::normal, v.running)) {
    auto reservation = v.space.reserve_nodes(1, ReserveClass::normal, v.running);
    if (!reservation) break;
    v.nodes.push_back(v.space.allocate_node(reservation.value(), v.running));
  }
  v.commit();
  CHECK(v.space.reserve_nodes(1, ReserveClass::normal, v.running).error() == Errc::no_space);
  for (int i = 0; i < 200; ++i) {
    auto reservation = v.space.reserve_nodes(60, ReserveClass::reclaiming, v.running);
    REQUIRE(reservation);
    std::vector<LogicalOffset> fresh;
    for (int n = 0; n < 60; ++n) {
      fresh.push_back(v.space.allocate_node(reservation.value(), v.running));
    }
    for (LogicalOffset at : fresh) v.nodes.push_back(at);
    for (int n = 0; n < 60; ++n) {  // copy-on-write: old nodes are freed
      v.space.free_node(v.nodes.front(), v.running);
      v.nodes.erase(v.nodes.begin());
    }
    v.commit();
  }
}

TEST_CASE("what is promised can be written, for every pair of profiles, on unequal devices") {
  const Profile data = GENERATE(from_range(kAllProfiles.begin(), kAllProfiles.end()));
  const Profile metadata = GENERATE(from_range(kAllProfiles.begin(), kAllProfiles.end()));
  INFO("data " << name_of(data) << ", metadata " << name_of(metadata));
  const std::vector<std::vector<uint64_t>> pools = {{90, 90, 90, 90}, {200, 100, 80, 60, 40}};
  for (const auto& pool : pools) {
    std::vector<uint64_t> sizes;
    for (const uint64_t mib : pool) sizes.push_back(mib * kMiB);
    Volume v(sizes, 16 * kMiB, data, metadata);
    const uint64_t promised = v.space.usage().available_bytes;
    const uint64_t surely = v.space.surely_free_bytes();
    CHECK(promised > 30 * kMiB);
    const uint64_t filled = v.fill(ReserveClass::normal);
    CHECK(filled >= surely);
    // A unit or two on each device may be the rest of a round.
    const uint64_t tolerance = 2 * sizes.size() * kMiB;
    CHECK(filled + tolerance >= promised);
    // The estimate for raid0 is the worse one of wide and narrow chunks.
    CHECK(filled <= promised + (data == Profile::raid0 ? promised / 8 : 0) + tolerance);
    CHECK(v.space.usage().available_bytes < tolerance);
  }
}

TEST_CASE("a volume's reserve is measured by what its metadata can use") {
  // Mirrors find 12 MiB: nearly all of it must be usable, though one device is large.
  Volume v({16 * kMiB, 100 * kGiB}, 4 * kMiB, Profile::raid1, Profile::raid1);
  CHECK(v.space.metadata_reserve() < 2 * kMiB);
  CHECK(v.fill(ReserveClass::normal) >= 7 * kMiB);
}

TEST_CASE("a full volume has nodes for its data in single blocks, and blocks for cutting") {
  Volume v({kGiB}, 64 * kMiB);
  const uint64_t filled = v.fill(ReserveClass::normal);
  CHECK(filled > 900 * kMiB);
  CHECK(v.space.usage().available_bytes == 0);
  // Cuts can use what normal writes leave free, and no more.
  uint64_t cut = 0;
  while (auto range = v.space.allocate_data(4096, v.running, ReserveClass::reclaiming)) {
    CHECK(range.value().length == 4096);
    cut += 4096;
  }
  CHECK(cut == Space::kDataReserve);

  // For each block of data 4096 / 21 bytes of metadata.
  uint64_t nodes = 0;
  while (auto reservation = v.space.reserve_nodes(1, ReserveClass::normal, v.running)) {
    v.space.allocate_node(reservation.value(), v.running);
    ++nodes;
  }
  CHECK(nodes * kNodeSize + kMiB > filled / 21);

  // Then deletes have nodes for a while. When these are used up, commits still have some.
  uint64_t deletes = 0, commits = 0;
  while (auto reservation = v.space.reserve_nodes(1, ReserveClass::reclaiming, v.running)) {
    v.space.allocate_node(reservation.value(), v.running);
    ++deletes;
  }
  while (auto reservation = v.space.reserve_nodes(1, ReserveClass::committing, v.running)) {
    v.space.allocate_node(reservation.value(), v.running);
    ++commits;
  }
  CHECK(deletes >= 3 * v.space.metadata_reserve() / kNodeSize / 4);
  CHECK(commits >= v.space.metadata_reserve() / kNodeSize / 4);
}

TEST_CASE("freed space comes back, and empty chunks are removed except one of each kind") {
  Volume v({256 * kMiB}, 8 * kMiB);
  const uint64_t before = v.space.usage().unallocated_bytes;
  const uint64_t filled = v.fill();
  // The rest is for metadata that may be needed later, and dup counts twice.
  CHECK(v.space.usage().unallocated_bytes < 2 * (v.space.metadata_reserve() + filled / 21));
  v.commit();
  v.free_all();
  CHECK(v.space.allocate_data(kMiB, v.running).error() == Errc::no_space);  // S1: pinned
  CHECK(v.space.pinned_bytes() > 200 * kMiB);
  auto sealed = v.commit();
  CHECK(sealed.removed.empty());
  CHECK(v.space.pinned_bytes() > 200 * kMiB);  // empty chunks that the next seal removes
  const uint64_t low = v.space.usage().unallocated_bytes;
  sealed = v.space.seal(v.running);
  CHECK(sealed.removed.size() > 20);
  CHECK(sealed.chunks->size() == v.mapper->current()->chunks().size());
  CHECK(v.space.usage().unallocated_bytes == low);  // S4
  ++v.running;
  v.space.committed(sealed);
  CHECK(v.space.usage().unallocated_bytes + 8 * kMiB == before);
  CHECK(v.space.pinned_bytes() == 0);
  CHECK(v.fill() > 200 * kMiB);
}

TEST_CASE("what is born and freed in one transaction is free at once") {
  Volume v({64 * kMiB}, 8 * kMiB);
  v.fill();
  v.free_all();
  CHECK(v.space.usage().pinned_bytes == 0);
  CHECK(v.fill() > 50 * kMiB);
}

TEST_CASE("frees between seal and committed wait for the next commit") {
  Volume v({64 * kMiB}, 8 * kMiB);
  auto range = v.space.allocate_data(kMiB, v.running).value();
  v.space.record_data(range);
  const Generation birth = v.running;
  auto sealed = v.space.seal(v.running);
  ++v.running;
  v.space.free_data(range, birth, v.running);
  v.space.committed(sealed);
  CHECK(v.space.usage().pinned_bytes == kMiB);
  v.commit();
  CHECK(v.space.usage().pinned_bytes == 0);
}

TEST_CASE("usage changes count what has records, to the byte") {
  Volume v({64 * kMiB}, 8 * kMiB);
  auto range = v.space.allocate_data(kMiB, v.running).value();
  CHECK(v.space.usage_changes().empty());  // in flight
  CHECK(v.commit().data_used_bytes == 0);
  v.space.record_data({range.start, 12288});
  v.space.cancel_data({range.start + 12288, 4096});
  auto changes = v.space.usage_changes();
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].used_bytes == 12288);
  CHECK(v.commit().data_used_bytes == 12288);
  CHECK(v.space.usage_changes().empty());
  CHECK(v.space.used_bytes(changes[0].chunk) == kMiB - 4096);
  v.space.free_data({range.start + 4096, 4096}, Generation(1), v.running);
  CHECK(v.space.usage_changes()[0].used_bytes == 8192);
  v.space.free_data({range.start, 4096}, Generation(1), v.running);
  v.space.free_data({range.start + 8192, 4096}, Generation(1), v.running);
  CHECK(v.space.usage_changes()[0].used_bytes == 0);
}

TEST_CASE("freeing what is not allocated is ignored") {
  set_log_sink([](LogLevel, const std::string&) {});
  Volume v({64 * kMiB}, 8 * kMiB);
  auto range = v.space.allocate_data(kMiB, v.running).value();
  v.space.record_data(range);
  const auto before = v.space.usage();
  v.space.free_data({LogicalOffset(1ull << 60), 4096}, Generation(1), v.running);
  v.space.free_data({range.start + 1, 4096}, Generation(1), v.running);
  v.space.free_data({range.start, ~uint64_t{0} - 4095}, Generation(1), v.running);
  v.space.free_data({range.end(), 4096}, Generation(1), v.running);
  v.space.free_node(range.start, v.running);
  v.space.free_node(v.nodes[0] + kNodeSize * 2, v.running);
  CHECK_FALSE(v.space.mark_node(v.nodes[0] + 4096, Generation(1)));
  CHECK_FALSE(v.space.mark_node(range.start, Generation(1)));
  CHECK(v.space.usage().data_used_bytes == before.data_used_bytes);
  CHECK(v.space.usage().pinned_bytes == before.pinned_bytes);
  set_log_sink({});
}

TEST_CASE("overlapping records of a damaged tree free no more than their chunk has") {
  set_log_sink([](LogLevel, const std::string&) {});
  test::ScriptedRuntime runtime;
  auto chunks = std::make_shared<ChunkList>();
  chunks->push_back(test::make_chunk(Profile::single, 0, 8 * kMiB, {{1, 4}}));
  auto mapper = test::make_mapper(runtime, {64 * kMiB}, chunks);
  Space space(runtime, *mapper, test::make_geometry({64 * kMiB}, 8 * kMiB),
              LogicalOffset(8 * kMiB));
  for (const uint64_t used : {uint64_t{0}, 8 * kMiB}) {
    space.set_data_used(LogicalOffset(0), used);
    for (uint64_t at = 0; at < 7 * kMiB; at += 4096) {
      space.free_data({LogicalOffset(at), kMiB}, Generation(1), Generation(2));
    }
    const SpaceUsage usage = space.usage();
    CHECK(usage.pinned_data_bytes <= 8 * kMiB);
    CHECK(usage.available_bytes <= 64 * kMiB);
  }
  set_log_sink({});
}

TEST_CASE("a volume of 16 TiB: little time, little memory") {
  const std::clock_t start = std::clock();
  const auto heap = mallinfo2().uordblks + mallinfo2().hblkhd;
  const uint64_t size = 16 * 1024 * kGiB;
  Volume v({size}, 16 * kGiB);
  for (int i = 0; i < 1000; ++i) {
    auto range = v.space.allocate_data(16 * kMiB, v.running);
    REQUIRE(range);
    CHECK(range.value().length == 16 * kMiB);
    v.space.record_data(range.value());
    if (i % 100 == 0) v.commit();
  }
  CHECK(mallinfo2().uordblks + mallinfo2().hblkhd < heap + 4 * kMiB);

  // The same with all chunks in the table: only the needed ones are loaded.
  auto chunks = std::make_shared<ChunkList>();
  for (uint64_t i = 0; i < 1000; ++i) {
    chunks->push_back(
        test::make_chunk(Profile::single, i * 16 * kGiB, 16 * kGiB, {{1, 4 + i * 16 * 1024}}));
  }
  auto mapper = test::make_mapper(v.runtime, {size}, chunks);
  Space full(v.runtime, *mapper, test::make_geometry({size}, 16 * kGiB), LogicalOffset(size));
  for (const auto& chunk : *chunks) full.set_data_used(chunk->start, chunk->length - 4096);
  auto reservation = full.reserve_nodes(8, ReserveClass::normal, Generation(2));
  REQUIRE(reservation);
  for (uint64_t i = 0; i < 100000; ++i) {
    auto range = full.allocate_data(4096, Generation(2), ReserveClass::reclaiming);
    REQUIRE(range);
    full.record_data(range.value());
    if (i % 1000 == 0) full.committed(full.seal(Generation(2 + i / 1000)));
  }
  CHECK(mallinfo2().uordblks + mallinfo2().hblkhd < heap + 16 * kMiB);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK(seconds < 10);
}

TEST_CASE("as many and as long chunks as a table can claim take memory by their use") {
  const std::clock_t start = std::clock();
  const auto heap = mallinfo2().uordblks + mallinfo2().hblkhd;
  constexpr uint64_t kCount = 7'000;  // of each kind: about what a table has room for
  auto chunks = std::make_shared<ChunkList>();
  uint64_t at = 0;
  for (uint64_t i = 0; i < 2 * kCount; ++i) {
    const bool data = i % 2 == 0;
    const uint64_t length = data ? kMaxDataChunkBytes : kMaxMetadataChunkBytes;
    auto chunk = std::make_shared<Chunk>(
        *test::make_chunk(Profile::single, at, length, {{1, 4 + at / kMiB}}));
    chunk->kind = data ? ChunkKind::data : ChunkKind::metadata;
    chunks->push_back(std::move(chunk));
    at += length;
  }
  test::ScriptedRuntime runtime;
  auto mapper = test::make_mapper(runtime, {kMaxVolumeBytes}, chunks);
  Space space(runtime, *mapper, test::make_geometry({kMaxVolumeBytes}, kMaxChunkSize),
              LogicalOffset(at));
  for (const auto& chunk : *chunks) {
    if (chunk->kind != ChunkKind::metadata) continue;
    CHECK(space.mark_node(chunk->start + chunk->length - kNodeSize, Generation(1)));
  }
  CHECK(space.nodes_in({LogicalOffset(0), at}).size() == kCount);
  CHECK(mallinfo2().uordblks + mallinfo2().hblkhd < heap + 64 * kMiB);
  CHECK(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC < 20);
}

TEST_CASE("an allocation that only a frozen range could serve waits for the thaw") {
  Volume v({64 * kMiB}, 8 * kMiB);
  v.fill();
  v.commit();
  // The first extent comes free, but is frozen.
  const auto [range, birth] = v.extents.front();
  Freeze freeze = v.space.freeze(range);
  v.space.free_data(range, birth, v.running);
  v.commit();
  int waits = 0;
  v.runtime.on_wait = [&] {
    ++waits;
    freeze.thaw();
  };
  const auto got = v.space.allocate_data(4096, v.running, ReserveClass::reclaiming);
  CHECK(waits == 1);
  REQUIRE(got);
  CHECK(range.overlaps(got.value()));
}

TEST_CASE("node reservations wait for a thaw too, and a freeze leaves what is reserved") {
  Volume v({64 * kMiB}, 8 * kMiB);
  v.fill();
  // Reserve all there is.
  std::vector<NodeReservation> all;
  while (true) {
    auto reservation = v.space.reserve_nodes(1, ReserveClass::committing, v.running);
    if (!reservation) break;
    all.push_back(std::move(reservation.value()));
  }
  CHECK(all.size() >= v.space.metadata_reserve() / kNodeSize);

  // A freeze of free nodes waits until reservations are returned.
  auto extents = device_extents(v.mapper->current()->chunks(), DeviceId(1));
  const DeviceExtent* metadata = nullptr;
  for (const auto& e : extents) {
    if (e.chunk->kind == ChunkKind::metadata) metadata = &e;
  }
  REQUIRE(metadata);
  const size_t returned = metadata->range.length / kNodeSize;
  REQUIRE(all.size() > returned);
  int waits = 0;
  v.runtime.on_wait = [&] {
    ++waits;
    all.resize(all.size() - returned);
  };
  Space::FrozenPiece piece = std::move(v.space.freeze_stripe(DeviceId(1), metadata->range).value());
  CHECK(waits == 1);
  CHECK(piece.chunk == metadata->chunk);
  CHECK(piece.range == metadata->range);

  // Frozen nodes are not handed out, not even for the last reservation.
  for (auto& reservation : all) {
    const LogicalOffset at = v.space.allocate_node(reservation, v.running);
    CHECK_FALSE(piece.chunk->range().overlaps({at, kNodeSize}));
  }
  v.runtime.on_wait = [&] {
    ++waits;
    piece.freeze.thaw();
  };
  CHECK(v.space.reserve_nodes(1, ReserveClass::committing, v.running));
  CHECK(waits == 2);
}

TEST_CASE("freeze_stripe tells what stands there now") {
  Volume v({64 * kMiB}, 8 * kMiB);
  auto range = v.space.allocate_data(kMiB, v.running).value();
  v.space.record_data(range);
  v.fill();
  auto old = v.commit().chunks;
  const Chunk* chunk = find_chunk(*old, range.start);
  const PhysicalRange place{chunk->stripes[0].offset, chunk->length};
  auto piece = v.space.freeze_stripe(DeviceId(1), {place.start + kMiB, kGiB});
  REQUIRE(piece);
  CHECK(piece.value().chunk.get() == chunk);
  CHECK(piece.value().range == PhysicalRange{place.start + kMiB, place.length - kMiB});
  CHECK_FALSE(v.space.freeze_stripe(DeviceId(1), {PhysicalOffset(0), kMiB}).value().chunk);
  CHECK_FALSE(v.space.freeze_stripe(DeviceId(2), {PhysicalOffset(0), kGiB}).value().chunk);
  CHECK_FALSE(v.space.freeze({LogicalOffset(1ull << 50), 4096}));

  // S2: the chunk under the freeze stays though it is empty and another empty one is there.
  v.free_all();
  v.space.free_data(range, Generation(1), v.running);
  v.commit();
  auto sealed = v.commit();
  CHECK(find_chunk(*sealed.chunks, range.start) == chunk);
  CHECK_FALSE(sealed.removed.empty());
}

TEST_CASE("a lowered device end is kept, and lifted") {
  Volume v({256 * kMiB}, 8 * kMiB);
  v.space.set_device_end(DeviceId(1), 64 * kMiB);
  CHECK(v.fill() < 60 * kMiB);
  CHECK(v.space.last_extent_end(DeviceId(1)) <= 64 * kMiB);
  v.space.set_device_end(DeviceId(1), 0);
  CHECK(v.fill() > 150 * kMiB);
  CHECK(v.space.last_extent_end(DeviceId(1)) <= 256 * kMiB);
}

TEST_CASE("large requests find large runs on a fragmented volume where there are any") {
  Volume v({kGiB}, 64 * kMiB);
  v.fill();
  v.commit();
  // Every other block of some extents, and three whole extents.
  std::vector<LogicalRange> whole;
  for (size_t i = 0; i < 300; ++i) {
    const auto& [range, birth] = v.extents[i];
    if (i % 100 == 50) {
      v.space.free_data(range, birth, v.running);
      continue;
    }
    for (uint64_t at = 0; at < range.length; at += 8192) {
      v.space.free_data({range.start + at, 4096}, birth, v.running);
    }
  }
  v.commit();
  const auto allocate = [&] {
    return v.space.allocate_data(kMiB, v.running, ReserveClass::reclaiming).value().length;
  };
  for (int i = 0; i < 3; ++i) CHECK(allocate() == kMiB);
  CHECK(allocate() <= 8192);
}

// ---- Lazy loading

/// An extent tree under a lock of its own, as fs has it.
class Tree final : public AllocatedSource {
 public:
  Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override {
    ++loads;
    std::vector<LogicalRange> ranges;
    LogicalOffset at = chunk.start;
    while (true) {
      if (pause) pause();
      std::lock_guard lock(mutex);
      auto record = extents.lower_bound(at);
      for (int i = 0; i < 16; ++i, ++record) {
        if (record == extents.end() || record->first >= chunk.end()) return ranges;
        ranges.push_back({record->first, record->second});
        at = record->first + 1;
      }
    }
  }
  std::mutex mutex;
  std::map<LogicalOffset, uint64_t> extents;
  std::function<void()> pause;
  std::atomic<int> loads = 0;
};

struct Mounted {
  Mounted() {
    auto chunks = std::make_shared<ChunkList>();
    for (uint64_t i = 0; i < 4; ++i) {
      chunks->push_back(
          test::make_chunk(Profile::single, i * 16 * kMiB, 16 * kMiB, {{1, 4 + 16 * i}}));
      for (uint64_t at = 0; at < 16 * kMiB; at += 16384) {
        tree.extents[LogicalOffset(i * 16 * kMiB + at)] = 12288;
      }
    }
    mapper = test::make_mapper(runtime, {68 * kMiB}, chunks);
    space = std::make_unique<Space>(runtime, *mapper, test::make_geometry({68 * kMiB}, 16 * kMiB),
                                    LogicalOffset(64 * kMiB));
    for (const auto& chunk : *chunks) space->set_data_used(chunk->start, 12 * kMiB);
    space->set_allocated_source(&tree);
  }
  void free_record(LogicalOffset at, Generation running) {
    std::lock_guard lock(tree.mutex);
    const uint64_t length = tree.extents.at(at);
    tree.extents.erase(at);
    space->free_data({at, length}, Generation(1), running);
  }
  RealRuntime runtime;
  Tree tree;
  std::unique_ptr<Mapper> mapper;
  std::unique_ptr<Space> space;
};

TEST_CASE("chunks are loaded on first use, one at a time, and only unrecorded space is free") {
  Mounted m;
  CHECK(m.space->usage().data_used_bytes == 48 * kMiB);
  CHECK(m.tree.loads == 0);
  uint64_t count = 0;
  while (auto range = m.space->allocate_data(kMiB, Generation(2), ReserveClass::reclaiming)) {
    REQUIRE(range.value().length == 4096);
    REQUIRE(range.value().start.value % 16384 == 12288);
    m.space->record_data(range.value());
    ++count;
  }
  CHECK(count == 4 * 1024);
  CHECK(m.tree.loads == 4);
}

TEST_CASE("frees while a chunk is being loaded are counted once") {
  Mounted m;
  const int when = GENERATE(0, 1, 20, 60);
  int pauses = 0;
  m.tree.pause = [&] {
    if (pauses++ != when) return;
    // A record at the front, which may have been listed, and one at the back; both pinned.
    m.free_record(LogicalOffset(0), Generation(2));
    m.free_record(LogicalOffset(16 * kMiB - 16384), Generation(2));
  };
  auto first = m.space->allocate_data(4096, Generation(2));
  REQUIRE(first);
  CHECK(m.tree.loads == 1);
  CHECK(m.space->usage().data_used_bytes == 48 * kMiB - 2 * 12288 + 4096);
  // Pinned until the commit.
  for (int i = 0; i < 1023; ++i) {
    auto range = m.space->allocate_data(4096, Generation(2));
    REQUIRE(range.value().start.value % 16384 == 12288);
  }
  m.space->committed(m.space->seal(Generation(2)));
  auto freed = m.space->allocate_data(12288, Generation(3)).value();
  CHECK(freed.length == 12288);
  CHECK((freed.start.value == 0 || freed.start.value == 16 * kMiB - 16384));
}

TEST_CASE("an unreadable chunk is an error only when nothing else serves, and tried again later") {
  Mounted m;
  class Failing final : public AllocatedSource {
   public:
    explicit Failing(Tree& tree) : tree_(tree) {}
    Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override {
      if (chunk.start.value < bad_below) return Error(Errc::io_error);
      return tree_.allocated_in(chunk);
    }
    uint64_t bad_below = 48 * kMiB;

   private:
    Tree& tree_;
  } failing(m.tree);
  m.space->set_allocated_source(&failing);
  auto range = m.space->allocate_data(4096, Generation(2));
  REQUIRE(range);
  CHECK(range.value().start.value >= 48 * kMiB);
  for (int i = 1; i < 1024; ++i) REQUIRE(m.space->allocate_data(4096, Generation(2)));
  CHECK(m.space->allocate_data(4096, Generation(2)).error() == Errc::io_error);
  failing.bad_below = 0;
  m.space->committed(m.space->seal(Generation(2)));
  CHECK(m.space->allocate_data(4096, Generation(3)));
}

TEST_CASE("threads allocate, free and commit while chunks load: no block is handed out twice") {
  Mounted m;
  m.tree.pause = [&] { m.runtime.sleep(std::chrono::microseconds(50)); };
  std::mutex mutex;
  std::vector<uint8_t> taken(64 * kMiB / 4096 + 1, 0);  // 1: in the tree, 2: handed out
  for (const auto& [at, length] : m.tree.extents) {
    for (uint64_t b = 0; b < length; b += 4096) taken[(at.value + b) / 4096] = 1;
  }
  std::atomic<uint64_t> running = 2;
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0, got = 0;
  std::vector<std::unique_ptr<Task>> tasks;
  for (int t = 0; t < 3; ++t) {
    tasks.push_back(m.runtime.spawn("writer", [&] {
      while (!stop) {
        auto range = m.space->allocate_data(8192, Generation(running));
        if (!range) continue;
        ++got;
        std::lock_guard lock(mutex);
        for (uint64_t b = 0; b < range.value().length; b += 4096) {
          uint8_t& state = taken[(range.value().start.value + b) / 4096];
          if (state != 0) ++wrong;
          state = 2;
        }
      }
    }));
  }
  std::mt19937_64 random(5);
  std::vector<std::vector<LogicalOffset>> pinned(2);
  for (int i = 0; i < 1500 || (got < 1000 && i < 100000); ++i) {
    const LogicalOffset at(random() % 4096 * 16384);
    bool there = false;
    {
      std::lock_guard lock(m.tree.mutex);
      there = m.tree.extents.count(at) > 0;
    }
    if (there) {
      m.free_record(at, Generation(running));
      pinned[1].push_back(at);
    }
    if (i % 50 == 49) {
      auto sealed = m.space->seal(Generation(running));
      ++running;
      {
        std::lock_guard lock(mutex);  // from the commit on these may be handed out
        for (LogicalOffset freed : pinned[1]) {
          for (uint64_t b = 0; b < 3; ++b) taken[freed.value / 4096 + b] = 0;
        }
        pinned[1].clear();
      }
      m.space->committed(sealed);
      m.runtime.sleep(std::chrono::microseconds(200));
    }
  }
  stop = true;
  for (auto& task : tasks) task->join();
  CHECK(wrong == 0);
  CHECK(got >= 1000);
}

TEST_CASE("freeze_free returns free ranges only, and nothing in them is allocated until the thaw") {
  Volume v({256 * kMiB}, 16 * kMiB);
  const auto take = [&](uint64_t bytes) {
    const auto range = v.space.allocate_data(bytes, v.running);
    REQUIRE(range);
    return range.value();
  };
  const LogicalRange recorded = take(kMiB), in_flight = take(kMiB), freed = take(kMiB);
  const LogicalRange frozen = take(kMiB), cancelled = take(kMiB);
  for (const LogicalRange& range : {recorded, freed, frozen}) v.space.record_data(range);
  v.commit();
  const Generation birth = v.running - 1;
  v.space.free_data(frozen, birth, v.running);
  v.commit();
  v.space.free_data(freed, birth, v.running);  // pinned until the commit
  v.space.cancel_data(cancelled);
  Freeze of_copier = v.space.freeze(frozen);
  const LogicalRange chunk = v.space.data_chunks_from(LogicalOffset(0)).first.front()->range();

  const auto touches = [](const Space::FreePieces& pieces, const LogicalRange& range) {
    return std::any_of(pieces.ranges.begin(), pieces.ranges.end(), [&](const LogicalRange& piece) {
      return piece.start < range.end() && range.start < piece.end();
    });
  };
  {
    const auto pieces = v.space.freeze_free(chunk, kBlockSize);
    for (const LogicalRange& range : {recorded, in_flight, freed, frozen}) {
      CHECK_FALSE(touches(pieces, range));
    }
    CHECK(touches(pieces, cancelled));
    uint64_t bytes = 0;
    for (const LogicalRange& piece : pieces.ranges) bytes += piece.length;
    CHECK(bytes == chunk.length - 4 * kMiB);
    CHECK(v.space.freeze_free(chunk, kBlockSize).ranges.empty());  // all is frozen now
    const LogicalRange elsewhere = take(kMiB);
    CHECK_FALSE(touches(pieces, elsewhere));
    v.space.cancel_data(elsewhere);
  }
  of_copier.thaw();
  v.commit();
  CHECK(touches(v.space.freeze_free(chunk, kBlockSize), freed));
  CHECK(touches(v.space.freeze_free(chunk, kBlockSize), frozen));
  CHECK_FALSE(touches(v.space.freeze_free(chunk, chunk.length), cancelled));  // no piece so long
  CHECK(v.space.freeze_free({LogicalOffset(0), 1}, 1).ranges.empty());        // in no chunk
  v.space.record_data(in_flight);
}

}  // namespace
}  // namespace moltfs::alloc
