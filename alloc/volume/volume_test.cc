// SPDX-License-Identifier: MIT
// Volume: creating, opening, I/O by logical address, commits, and their failures.
#include "alloc/volume/volume.h"

#include "alloc/volume/volume_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::alloc::test;

namespace {

bool mentions(const Error& error, const std::string& text) {
  INFO(error.message());
  return error.message().find(text) != std::string::npos;
}

/// A volume with two commits and one block of data in each; closed again.
std::vector<LogicalOffset> make_volume(TestDisks& disks, std::vector<std::string> paths) {
  auto volume = disks.create(std::move(paths)).value();
  std::vector<LogicalOffset> at;
  for (uint8_t g : {1, 2}) {
    at.push_back(put(*volume, g, Generation(g)).value());
    REQUIRE(commit(*volume, g));
  }
  return at;
}

}  // namespace

TEST_CASE("a volume is created, written and opened again") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto at = make_volume(disks, {"mem:a"});
  auto volume = disks.open({"mem:a"});
  REQUIRE(volume);
  Volume& v = *volume.value();
  REQUIRE(holds(v, at[0], 1).value());
  REQUIRE(holds(v, at[1], 2).value());
  REQUIRE(v.superblock().generation == Generation(2));
  REQUIRE(v.superblock().fs_payload == std::vector<std::byte>{std::byte{42}, std::byte{2}});
  REQUIRE(v.copies_at(v.acquire_map(), at[0]) == 1);
  REQUIRE(v.copies_at(v.acquire_map(), LogicalOffset(uint64_t{1} << 50)) == 0);
  REQUIRE(v.devices().front().path == "mem:a");

  SECTION("and goes on") {
    v.set_label("new label");
    auto more = put(v, 3, Generation(3)).value();
    REQUIRE(commit(v, 3));
    volume.value().reset();
    auto again = disks.open({"mem:a"}).value();
    REQUIRE(holds(*again, more, 3).value());
    REQUIRE(holds(*again, at[0], 1).value());
    REQUIRE(again->superblock().label == "new label");
  }
  SECTION("a device in use is refused by name") {
    auto second = disks.open({"mem:a"});
    REQUIRE(second.error() == Errc::device_in_use);
    REQUIRE(mentions(second.error(), "mem:a"));
  }
  SECTION("both superblock copies are the same generation") {
    auto& disk = disks.devices.disk("mem:a");
    volume.value().reset();
    disk.corrupt(kSuperblockOffsets[0], 4096);
    auto again = disks.open({"mem:a"});
    REQUIRE(again);
    REQUIRE(again.value()->superblock().generation == Generation(2));
  }
}

TEST_CASE("the chunk table is written only when it changed, into the other slot") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto volume = disks.create({"mem:a"}).value();
  (void)put(*volume, 1, Generation(1)).value();
  REQUIRE(commit(*volume, 1));
  const auto first = volume->superblock().chunk_table;
  REQUIRE(commit(*volume, 2));
  REQUIRE(volume->superblock().chunk_table == first);
  // A commit without a new chunk writes two superblocks of one block, nothing else.
  std::vector<uint64_t> offsets;
  disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.op != IoOp::write) return ok();
    REQUIRE(request.length == kBlockSize);
    offsets.push_back(request.offset);
    return ok();
  });
  REQUIRE(commit(*volume, 3));
  disks.devices.set_hook(nullptr);
  REQUIRE(offsets == std::vector<uint64_t>{kSuperblockOffsets[0], kSuperblockOffsets[1]});
  while (volume->space().usage().data_chunk_bytes < 8 * kMiB) {
    (void)volume->space().allocate_data(kMiB, Generation(4)).value();
  }
  REQUIRE(commit(*volume, 4));
  const auto second = volume->superblock().chunk_table;
  REQUIRE(second.slot != first.slot);
  REQUIRE(second.generation == Generation(4));
}

TEST_CASE("the chunk table is read from another member if it is damaged on one") {
  TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
  auto at = make_volume(disks, {"mem:a", "mem:b"});
  const auto slot = disks.open({"mem:a"}).value()->superblock().chunk_table.slot;
  disks.devices.disk("mem:a").corrupt(kChunkTableOffsets[slot] + 10, 1);
  auto volume = disks.open({"mem:a"});
  REQUIRE(volume);
  REQUIRE(holds(*volume.value(), at[0], 1).value());
  volume.value().reset();
  disks.devices.disk("mem:b").corrupt(kChunkTableOffsets[slot] + 10, 1);
  REQUIRE(disks.open({"mem:a"}).error() == Errc::bad_chunk_table);
}

TEST_CASE("members are found by path, hint and search, in any order") {
  const std::vector<std::string> all = {"mem:a", "mem:b", "mem:c"};
  TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 32 * kMiB}, {"mem:c", 64 * kMiB}});
  auto at = make_volume(disks, all);
  std::vector<std::string> order = all;
  do {
    for (size_t count = 1; count <= order.size(); ++count) {
      auto volume = disks.open({order.begin(), order.begin() + static_cast<ptrdiff_t>(count)});
      REQUIRE(volume);
      REQUIRE(volume.value()->devices().size() == 3);
      REQUIRE(holds(*volume.value(), at[0], 1).value());
    }
  } while (std::next_permutation(order.begin(), order.end()));

  auto b = disks.devices.disk_pointer("mem:b");
  disks.devices.remove("mem:b");
  auto lost = disks.open({"mem:c"});
  REQUIRE(lost.error() == Errc::missing_device);
  REQUIRE(mentions(lost.error(), "mem:b"));
  REQUIRE(mentions(lost.error(), "-o device=PATH"));

  disks.devices.insert("mem:moved", b);
  REQUIRE(disks.open({"mem:c"}));
  Volume::OpenOptions no_search;
  no_search.search = false;
  REQUIRE(disks.open({"mem:c"}, no_search).error() == Errc::missing_device);
  no_search.hints = {"mem:nowhere", "mem:moved"};
  auto volume = disks.open({"mem:c"}, no_search);
  REQUIRE(volume);
  REQUIRE(volume.value()->devices()[1].path == "mem:moved");
}

TEST_CASE("a member whose superblock is one commit older, after a crash, is still a member") {
  TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
  make_volume(disks, {"mem:a", "mem:b"});
  const auto old_a = disks.devices.disk("mem:a").clone();
  const auto old_b = disks.devices.disk("mem:b").clone();
  {
    auto volume = disks.open({"mem:a"}).value();
    REQUIRE(commit(*volume, 3));
  }
  // The power failed after copy 0 of mem:a.
  disks.devices.insert("mem:b", old_b);
  std::vector<std::byte> copy(kBlockSize);
  old_a->read(kSuperblockOffsets[1], copy);
  disks.devices.disk("mem:a").write(kSuperblockOffsets[1], copy);
  for (const std::string path : {"mem:a", "mem:b"}) {
    auto volume = disks.open({path});
    REQUIRE(volume);
    REQUIRE(volume.value()->superblock().generation == Generation(3));
  }
}

TEST_CASE("devices that do not fit are refused with a sentence that names them") {
  TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}, {"mem:empty", 64 * kMiB}});
  make_volume(disks, {"mem:a"});
  auto refused = [&](std::vector<std::string> paths) {
    auto volume = disks.open(std::move(paths));
    REQUIRE(!volume);
    return volume.error();
  };
  SECTION("no moltfs") {
    auto error = refused({"mem:empty"});
    REQUIRE(error == Errc::bad_superblock);
    REQUIRE(mentions(error, "mem:empty"));
  }
  SECTION("absent") {
    REQUIRE(refused({"mem:nowhere"}) == Errc::not_found);
  }
  SECTION("of another volume") {
    make_volume(disks, {"mem:b"});
    auto error = refused({"mem:a", "mem:b"});
    REQUIRE(error == Errc::bad_superblock);
    REQUIRE(mentions(error, "belongs to volume"));
  }
  SECTION("a copy of a member") {
    disks.devices.insert("mem:copy", disks.devices.disk("mem:a").clone());
    auto error = refused({"mem:a", "mem:copy"});
    REQUIRE(error == Errc::invalid_argument);
    REQUIRE(mentions(error, "mem:copy"));
  }
  SECTION("shorter than recorded") {
    auto shorter = std::make_shared<moltfs::test::MemoryDisk>(60 * kMiB, 512);
    std::vector<std::byte> bytes(60 * kMiB);
    disks.devices.disk("mem:a").read(0, bytes);
    shorter->write(0, bytes);
    disks.devices.insert("mem:a", shorter);
    auto error = refused({"mem:a"});
    REQUIRE(error == Errc::device_too_small);
    REQUIRE(mentions(error, "60.0 MiB"));
    REQUIRE(mentions(error, "64.0 MiB"));
  }
  SECTION("write-protected") {
    disks.devices.write_protect("mem:a", true);
    REQUIRE(refused({"mem:a"}) == Errc::device_read_only);
    Volume::OpenOptions read_only;
    read_only.read_only = true;
    auto volume = disks.open({"mem:a"}, read_only).value();
    REQUIRE(volume->read_only());
    REQUIRE(commit(*volume, 3).error() == Errc::read_only);
  }
}

TEST_CASE("a device that has grown is used up to its new size") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  make_volume(disks, {"mem:a"});
  auto longer = std::make_shared<moltfs::test::MemoryDisk>(100 * kMiB + 512, 512);
  std::vector<std::byte> bytes(64 * kMiB);
  disks.devices.disk("mem:a").read(0, bytes);
  longer->write(0, bytes);
  disks.devices.insert("mem:a", longer);
  auto volume = disks.open({"mem:a"}).value();
  REQUIRE(volume->devices().front().size_bytes == 100 * kMiB);
  REQUIRE(volume->space().usage().device_bytes == 96 * kMiB);
  REQUIRE(commit(*volume, 3));
  REQUIRE(volume->superblock().devices.front().size_bytes == 100 * kMiB);
}

TEST_CASE("create refuses devices and options that do not fit") {
  TestDisks disks({{"mem:tiny", 8 * kMiB}, {"mem:small", 32 * kMiB}, {"mem:a", 64 * kMiB}});
  REQUIRE(disks.create({"mem:tiny"}).error() == Errc::device_too_small);
  REQUIRE(disks.create({"mem:small"}).error() == Errc::device_too_small);
  REQUIRE(disks.create({}).error() == Errc::invalid_argument);
  Volume::CreateOptions options;
  options.chunk_size = 3 * kMiB;
  REQUIRE(disks.create({"mem:a"}, options).error() == Errc::invalid_argument);
  options = {};
  options.label = std::string(256, 'x');
  REQUIRE(disks.create({"mem:a"}, options).error() == Errc::invalid_argument);
  options = {};
  options.data_profile = Profile::raid1;
  REQUIRE(disks.create({"mem:a"}, options).error() == Errc::invalid_argument);
  options.data_profile = Profile::single;
  options.metadata_profile = Profile::raid1c3;
  const auto refused = disks.create({"mem:a", "mem:small"}, options);
  REQUIRE(refused.error() == Errc::invalid_argument);
  REQUIRE(refused.error().message() == "profile raid1c3 needs 3 devices, but 2 were given");
}

TEST_CASE("a volume of 16 TiB is created with few writes") {
  TestDisks disks({{"mem:a", uint64_t{16} << 40}});
  auto at = make_volume(disks, {"mem:a"});
  REQUIRE(disks.devices.disk("mem:a").stored_bytes() < 2 * kMiB);
  auto volume = disks.open({"mem:a"}).value();
  REQUIRE(holds(*volume, at[1], 2).value());
}

TEST_CASE("I/O errors of members are returned with their place") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto at = make_volume(disks, {"mem:a"});
  auto volume = disks.open({"mem:a"}).value();
  disks.devices.set_hook([](const IoRequest&) -> Result<void> { return Error(Errc::io_error); });
  auto read = holds(*volume, at[0], 1);
  REQUIRE(read.error() == Errc::io_error);
  REQUIRE(read.error().device == DeviceId(1));
  REQUIRE(read.error().offset >= kFirstChunkOffset);
  REQUIRE(put(*volume, 3, Generation(3)).error().device == DeviceId(1));
  REQUIRE(commit(*volume, 3).error() == Errc::io_error);
  disks.devices.set_hook(nullptr);
  REQUIRE(volume->superblock().generation == Generation(2));
  AlignedBuffer buffer(4096);
  auto guard = volume->acquire_map();
  REQUIRE(volume->read(guard, LogicalOffset(uint64_t{1} << 40), buffer.span(), 0).error() ==
          Errc::bad_chunk_table);
  REQUIRE(volume->read(guard, at[0], buffer.span(), 5).error() == Errc::not_found);
}

TEST_CASE("the k-th request fails: creating a volume") {
  bool failed = true;
  for (unsigned k = 1; failed; ++k) {
    REQUIRE(k < 100);
    TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
    unsigned count = 0;
    failed = false;
    disks.devices.set_hook([&](const IoRequest&) -> Result<void> {
      if (++count != k) return ok();
      failed = true;
      return Error(Errc::io_error);
    });
    auto volume = disks.create({"mem:a", "mem:b"}).value();
    auto done = put(*volume, 1, Generation(1));
    auto committed = done ? commit(*volume, 1) : Result<void>(done.error());
    REQUIRE(committed.has_value() == !failed);
    volume.reset();
    disks.devices.set_hook(nullptr);
    auto again = disks.open({"mem:a"});
    if (!failed) REQUIRE(again);
    if (again) REQUIRE(again.value()->superblock().generation == Generation(1));
  }
}

TEST_CASE("the k-th request fails: a commit is either done or not") {
  bool failed = true;
  for (unsigned k = 1; failed; ++k) {
    REQUIRE(k < 100);
    TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
    auto at = make_volume(disks, {"mem:a", "mem:b"});
    auto volume = disks.open({"mem:a"}).value();
    unsigned count = 0;
    failed = false;
    disks.devices.set_hook([&](const IoRequest&) -> Result<void> {
      if (++count != k) return ok();
      failed = true;
      return Error(Errc::io_error);
    });
    (void)volume->space().allocate_data(kMiB, Generation(3));
    auto committed = commit(*volume, 3);
    REQUIRE(committed.has_value() == !failed);
    volume.reset();
    disks.devices.set_hook(nullptr);
    auto again = disks.open({"mem:b"});
    REQUIRE(again);
    REQUIRE(holds(*again.value(), at[0], 1).value());
    if (!failed) REQUIRE(again.value()->superblock().generation == Generation(3));
  }
}

TEST_CASE("the k-th request fails: opening") {
  TestDisks disks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}});
  auto at = make_volume(disks, {"mem:a", "mem:b"});
  for (bool for_ever : {false, true}) {
    bool failed = true;
    for (unsigned k = 1; failed; ++k) {
      REQUIRE(k < 100);
      unsigned count = 0;
      failed = false;
      disks.devices.set_hook([&](const IoRequest&) -> Result<void> {
        ++count;
        if (count != k && !(for_ever && count > k)) return ok();
        failed = true;
        return Error(Errc::io_error);
      });
      auto volume = disks.open({"mem:a"});
      disks.devices.set_hook(nullptr);
      if (volume) {
        REQUIRE(holds(*volume.value(), at[1], 2).value());
        REQUIRE(volume.value()->superblock().generation == Generation(2));
      } else {
        REQUIRE(failed);
        REQUIRE(!volume.error().message().empty());
      }
    }
  }
}

TEST_CASE("discards follow the commit that removed a chunk") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto volume = disks.create({"mem:a"}).value();
  // Three chunks; two of them become empty again.
  std::vector<LogicalRange> ranges;
  while (volume->space().usage().data_chunk_bytes < 12 * kMiB) {
    ranges.push_back(volume->space().allocate_data(kMiB, Generation(1)).value());
    volume->space().record_data(ranges.back());
  }
  REQUIRE(commit(*volume, 1));
  std::vector<std::string> order;
  disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.op == IoOp::discard) order.push_back("discard");
    if (request.offset == kSuperblockOffsets[0]) order.push_back("superblock");
    return request.op == IoOp::discard ? Result<void>(Error(Errc::io_error)) : ok();
  });
  for (const auto& range : ranges) volume->space().free_data(range, Generation(1), Generation(2));
  for (uint64_t g = 2; g <= 5; ++g) REQUIRE(commit(*volume, g));
  REQUIRE(std::count(order.begin(), order.end(), "discard") >= 2);
  REQUIRE(order.front() == "superblock");
  REQUIRE(volume->space().usage().data_chunk_bytes <= 4 * kMiB);
}

TEST_CASE("a commit is durable before its discards, and frees space after them") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto volume = disks.create({"mem:a"}).value();
  FakeEngine engine;
  engine.volume = volume.get();
  volume->set_hook(&engine);
  std::vector<LogicalRange> ranges;
  while (volume->space().usage().data_chunk_bytes < 12 * kMiB) {
    ranges.push_back(volume->space().allocate_data(kMiB, Generation(1)).value());
    volume->space().record_data(ranges.back());
  }
  REQUIRE(commit(*volume, 1));
  for (const auto& range : ranges) volume->space().free_data(range, Generation(1), Generation(2));
  REQUIRE(commit(*volume, 2));

  const auto sealed = volume->seal(Generation(3));
  REQUIRE(sealed.removed.size() >= 2);
  const uint64_t before = volume->space().usage().unallocated_bytes;
  unsigned discards = 0;
  bool freed_too_early = false;
  disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.op != IoOp::discard) return ok();
    ++discards;
    freed_too_early |= volume->space().usage().unallocated_bytes != before;  // S4
    return ok();
  });
  engine.calls.clear();
  REQUIRE(volume->finish_commit(sealed, {}));
  CHECK(engine.calls.back() == "durable");
  CHECK(volume->superblock().generation == Generation(3));
  CHECK(volume->space().committed_chunks() == sealed.chunks);
  CHECK(discards == 0);
  CHECK(volume->space().usage().unallocated_bytes == before);
  volume->free_removed(sealed);
  CHECK(discards >= 2);
  CHECK_FALSE(freed_too_early);
  CHECK(volume->space().usage().unallocated_bytes >= before + 8 * kMiB);
  disks.devices.set_hook(nullptr);
}

TEST_CASE(
    "small writes stay in the write buffer until the next commit; reads get them from there") {
  TestDisks disks({{"mem:a", 64 * kMiB}});
  auto at = make_volume(disks, {"mem:a"});
  auto volume = disks.open({"mem:a"}).value();
  std::atomic<uint64_t> writes{0};
  std::atomic<bool> bad_place{false};
  uint64_t bad_offset = 0;
  disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.op != IoOp::write || request.offset < kFirstChunkOffset) return ok();
    ++writes;
    const bool covers =
        request.offset <= bad_offset && bad_offset < request.offset + request.length;
    if (bad_place && covers) return Error(Errc::io_error);
    return ok();
  });
  const auto put_later = [&](uint8_t seed, uint64_t owner) {
    auto bytes = pattern(seed);
    auto range = volume->space().allocate_data(bytes.size(), Generation(3)).value();
    auto guard = volume->acquire_map();
    const LogicalWrite write{range.start, bytes.span()};
    REQUIRE(volume->write_buffered(guard, {&write, 1}, owner));
    volume->space().record_data(range);
    return range.start;
  };
  const auto on_device = [&](LogicalOffset where, uint8_t seed) {
    const auto place = volume->mapper().current()->for_read({where, 65536}, 0).value()[0];
    std::vector<std::byte> bytes(65536);
    disks.devices.disk("mem:a").read(place.offset.value, bytes);
    const auto expected = pattern(seed);
    return std::memcmp(bytes.data(), expected.data(), bytes.size()) == 0;
  };
  const auto a = put_later(3, 300), b = put_later(4, 400);
  REQUIRE(writes == 0);
  REQUIRE(!on_device(a, 3));
  REQUIRE(holds(*volume, a, 3).value());
  REQUIRE(holds(*volume, at[1], 2).value());

  SECTION("neighbours in one request") {
    REQUIRE(commit(*volume, 3));
    REQUIRE(writes == 1);
    REQUIRE(holds(*volume, a, 3).value());
    volume.reset();
    disks.devices.set_hook(nullptr);
    auto again = disks.open({"mem:a"}).value();
    REQUIRE(holds(*again, a, 3).value());
    REQUIRE(holds(*again, b, 4).value());
  }
  SECTION("a full batch is written at once") {
    for (unsigned i = 0; i < 15; ++i) put_later(static_cast<uint8_t>(i), 5);
    REQUIRE(writes == 1);
    REQUIRE(holds(*volume, b, 4).value());
  }
  SECTION("with the fsync log") {
    REQUIRE(volume->write_log({}, false).value());
    REQUIRE(writes == 1);
    put_later(5, 5);
    REQUIRE(volume->write_log({}, true).value());
    REQUIRE(writes == 2);
  }
  SECTION("with the fsync log, even if their chunk was made a moment ago") {
    std::optional<LogicalOffset> late;
    disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.op != IoOp::flush || late) return ok();
      late = LogicalOffset();
      const size_t chunks = volume->mapper().current()->chunks().size();
      while (volume->mapper().current()->chunks().size() == chunks) late = put_later(6, 6);
      return ok();
    });
    REQUIRE(volume->write_log({}, true).value());
    REQUIRE(on_device(*late, 6));
  }
  SECTION("a failure is reported to its owner once, and write_log returns false") {
    bad_offset = volume->mapper().current()->for_write({b, kBlockSize}).value()[0].offset.value;
    bad_place = true;
    REQUIRE(!volume->write_log({}, false).value());
    REQUIRE(holds(*volume, a, 3).value());
    REQUIRE(!volume->write_failures().news(300, 0));
    REQUIRE(volume->write_failures().news(400, 0)->code == Errc::io_error);
    REQUIRE(!volume->write_failures().news(400, 0));
    bad_place = false;
    REQUIRE(!volume->write_log({}, false).value());
    REQUIRE(commit(*volume, 3));
    bad_place = true;
    bad_offset = 0;
    REQUIRE(!volume->write_failures().news_for_all());
  }
  SECTION("a device that is full: nothing is lost, the buffer keeps it") {
    std::atomic<bool> full{true};
    disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (full && request.op == IoOp::write) return Error(Errc::device_full);
      return ok();
    });
    REQUIRE(commit(*volume, 3).error() == Errc::device_full);
    REQUIRE(volume->write_log({}, false).error() == Errc::device_full);
    REQUIRE(!volume->write_failures().news_for_all());
    REQUIRE(holds(*volume, a, 3).value());
    REQUIRE(holds(*volume, b, 4).value());
    full = false;
    REQUIRE(volume->write_log({}, false).value());
    REQUIRE(on_device(a, 3));
    REQUIRE(on_device(b, 4));
    REQUIRE(!volume->write_failures().news_for_all());
  }
  SECTION("writes to a chunk that was removed are dropped") {
    volume->space().free_data({a, 65536}, Generation(3), Generation(3));
    volume->space().free_data({b, 65536}, Generation(3), Generation(3));
    REQUIRE(commit(*volume, 3));
    REQUIRE(!volume->write_failures().news_for_all());
  }
  disks.devices.set_hook(nullptr);
}
