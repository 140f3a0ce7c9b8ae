// SPDX-License-Identifier: MIT
// Content of files: each operation, its edges, and what faults and full volumes do to it.
#include "fs/content/content.h"

#include <atomic>
#include <condition_variable>
#include <numeric>
#include <set>

#include "alloc/base/log.h"
#include "fs/content/content_test_util.h"
#include "fs/inode/orphan_mark.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

std::vector<std::byte> pattern(size_t count, int seed) {
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  return random_bytes(random, count);
}

bool is_zero(ConstBytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// Silences the log for tests that provoke messages.
class Quiet {
 public:
  Quiet() {
    set_log_sink([this](LogLevel, const std::string&) { ++lines; });
  }
  ~Quiet() { set_log_sink({}); }
  std::atomic<int> lines{0};
};

/// A file of `count` blocks, each an extent of its own.
InodeNumber fragmented_file(TestFiles& world, const std::string& name, uint64_t count) {
  const InodeNumber ino = world.make_file(name), other = world.make_file(name + ".other");
  for (uint64_t i = 0; i < count; ++i) {
    world.write(ino, i * kBlockSize, pattern(kBlockSize, static_cast<int>(i)));
    world.write(other, i * kBlockSize, pattern(kBlockSize, 1));
  }
  return ino;
}

/// A second context, for functions that are inside fs only. They make no orphans.
struct OwnContext final : OrphanSink {
  explicit OwnContext(TestFiles& world) : context(world.runtime, *world.transactions, {}, *this) {}
  void add(InodeNumber ino) override { FAIL("inode " << ino.value << " is an orphan"); }
  FilesystemContext context;
};

/// Leaves the file as a truncate to `size` does that stops after its first critical section: with
/// this mark, and all extents.
void interrupt_truncate(TestFiles& world, InodeNumber ino, uint64_t size, OrphanKind kind) {
  const OwnContext own(world);
  REQUIRE(world.transactions->write(Budget{2}, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, world.tree(), ino));
    TRY(prepare_orphan_mark(own.context, txn, ino));
    put_orphan_mark(own.context, txn, ino, kind);
    inode.size = size;
    store_inode(txn, world.tree(), inode);
    return ok();
  }));
}

}  // namespace

TEST_CASE("small files are inline until they become too large") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  world.write(ino, 0, pattern(1000, 1));
  CHECK(world.allocated_of(ino) == 0);
  CHECK(world.read(ino, 0, 5000) == pattern(1000, 1));
  CHECK(world.filesystem->seek(ino, 500, SeekWhence::data).value() == 500);
  CHECK(world.filesystem->seek(ino, 500, SeekWhence::hole).value() == 1000);

  world.write(ino, 100'000, pattern(10, 2));  // far away
  CHECK(world.size_of(ino) == 100'010);
  CHECK(world.allocated_of(ino) == 2 * kBlockSize);
  CHECK(world.read(ino, 0, 1000) == pattern(1000, 1));
  CHECK(is_zero(world.read(ino, 1000, 99'000)));
  CHECK(world.read(ino, 100'000, 100) == pattern(10, 2));
  world.check_extents({ino});

  REQUIRE(world.resize(ino, 0));
  CHECK(world.allocated_of(ino) == 0);
  world.write(ino, 10, pattern(5, 3));
  CHECK(world.allocated_of(ino) == 0);
  CHECK(world.size_of(ino) == 15);
  CHECK(is_zero(world.read(ino, 0, 10)));
  world.check_extents({ino});
}

TEST_CASE("bytes that were cut off do not come back when the file grows") {
  TestFiles world;
  for (uint64_t size : {uint64_t{100}, uint64_t{1999}, uint64_t{5000}, uint64_t{8192}}) {
    const InodeNumber ino = world.make_file("f" + std::to_string(size));
    for (uint64_t before : {uint64_t{1500}, uint64_t{20'000}}) {
      world.write(ino, 0, pattern(before, 1));
      REQUIRE(world.resize(ino, size));
      REQUIRE(world.resize(ino, 30'000));
      auto expected = pattern(before, 1);
      expected.resize(size);
      expected.resize(30'000);
      CHECK(world.read(ino, 0, 30'000) == expected);
      REQUIRE(world.resize(ino, 0));
    }
  }
}

TEST_CASE("appending in small pieces does not fragment a file") {
  TestFiles world;
  const InodeNumber ino = world.make_file("log");
  WriteFlags append;
  append.append = true;
  for (int i = 0; i < 300; ++i) {
    REQUIRE(world.filesystem->write(ino, 0, pattern(kBlockSize, i), append));
  }
  CHECK(world.extents_of(ino).size() <= 4);
  for (int i = 0; i < 300; ++i) {
    CHECK(world.read(ino, static_cast<uint64_t>(i) * kBlockSize, kBlockSize) ==
          pattern(kBlockSize, i));
  }
  world.check_extents({ino});
}

TEST_CASE("preallocated space is a hole, is written in place, and is kept beyond the end") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::allocate, 0, 1 << 20, true));
  CHECK(world.size_of(ino) == 0);
  CHECK(world.allocated_of(ino) == 1 << 20);
  world.reopen();
  const auto place = world.extents_of(ino).front().logical;
  world.write(ino, 8192, pattern(4096, 1));
  CHECK(world.size_of(ino) == 12'288);
  CHECK(world.allocated_of(ino) == 1 << 20);
  CHECK(is_zero(world.read(ino, 0, 8192)));
  CHECK(world.read(ino, 8192, 4096) == pattern(4096, 1));
  const auto extents = world.extents_of(ino);
  REQUIRE(extents.size() == 3);
  CHECK(extents[1].logical == place + 8192);
  CHECK_FALSE(extents[1].unwritten);
  CHECK(world.filesystem->seek(ino, 0, SeekWhence::data).value() == 8192);
  CHECK(world.filesystem->seek(ino, 8192, SeekWhence::hole).value() == 12'288);
  world.check_extents({ino});

  // Written once, it is copied on write like any other.
  world.write(ino, 8192, pattern(4096, 2));
  CHECK(world.extents_of(ino)[1].logical != place + 8192);
  world.check_extents({ino});
  REQUIRE(world.resize(ino, 12'288));
  CHECK(world.allocated_of(ino) == 12'288);
}

TEST_CASE("holes and zeroed ranges") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  const auto bytes = pattern(65'536, 1);
  world.write(ino, 0, bytes);
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::punch_hole, 5000, 20'000, false));
  auto expected = bytes;
  std::fill(expected.begin() + 5000, expected.begin() + 25'000, std::byte{0});
  CHECK(world.read(ino, 0, 65'536) == expected);
  CHECK(world.filesystem->seek(ino, 0, SeekWhence::hole).value() == 8192);
  CHECK(world.filesystem->seek(ino, 8192, SeekWhence::data).value() == 24'576);
  const uint64_t allocated = world.allocated_of(ino);
  CHECK(allocated == 65'536 - 4 * kBlockSize);
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::zero_range, 30'000, 50'000, false));
  expected.resize(80'000);
  std::fill(expected.begin() + 30'000, expected.end(), std::byte{0});
  CHECK(world.read(ino, 0, 80'000) == expected);
  CHECK(world.allocated_of(ino) == allocated + 4 * kBlockSize);
  CHECK(world.filesystem->seek(ino, 40'000, SeekWhence::data).error() == Errc::no_such_offset);
  world.check_extents({ino});
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::punch_hole, 0, 1 << 20, false));
  CHECK(world.allocated_of(ino) == 0);
  CHECK(world.size_of(ino) == 80'000);
}

TEST_CASE("copies keep holes") {
  TestFiles world;
  const InodeNumber from = world.make_file("from"), to = world.make_file("to");
  world.write(from, 10'000'000, pattern(10'000, 1));
  world.write(from, 2'000'000, pattern(3'000'000, 2));
  CHECK(world.filesystem->copy_range(from, 0, to, 0, uint64_t{1} << 40).value() == 10'010'000);
  CHECK(world.read(to, 10'000'000, 20'000) == pattern(10'000, 1));
  CHECK(world.read(to, 2'000'000, 3'000'000) == pattern(3'000'000, 2));
  CHECK(world.allocated_of(to) == world.allocated_of(from));
  CHECK(world.filesystem->copy_range(from, 0, from, 100, 101).error() == Errc::invalid_argument);
  world.check_extents({from, to});
}

TEST_CASE("impossible requests are refused") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  const auto byte = pattern(1, 1);
  Filesystem& fs = *world.filesystem;
  CHECK(fs.write(ino, kMaxFileBytes, byte, {}).error() == Errc::file_too_large);
  CHECK(fs.write(kRootInode, 0, byte, {}).error() == Errc::is_a_directory);
  CHECK(fs.write(InodeNumber{9999}, 0, byte, {}).error() == Errc::not_found);
  CHECK(fs.allocate(ino, AllocateMode::allocate, 0, 0, false).error() == Errc::invalid_argument);
  CHECK(fs.allocate(ino, AllocateMode::allocate, 1, kMaxFileBytes, false).error() ==
        Errc::file_too_large);
  CHECK(fs.allocate(ino, AllocateMode::allocate, 0, uint64_t{1} << 50, false).error() ==
        Errc::no_space);
  CHECK(world.allocated_of(ino) == 0);
  // The far end works.
  CHECK(fs.write(ino, kMaxFileBytes - 1, byte, {}).value() == kMaxFileBytes - 1);
  CHECK(world.size_of(ino) == kMaxFileBytes);
  CHECK(world.read(ino, kMaxFileBytes - 1, 10) == byte);
  CHECK(fs.seek(ino, 0, SeekWhence::data).value() == kMaxFileBytes / kBlockSize * kBlockSize);
  world.check_extents({ino});
  REQUIRE(world.resize(ino, 10));
  CHECK(world.allocated_of(ino) == 0);
}

TEST_CASE("a full volume: the file stays as it was, and all space comes back") {
  TestFiles world;
  const InodeNumber keep = world.make_file("keep");
  world.write(keep, 0, pattern(100'000, 1));
  REQUIRE(world.filesystem->sync());
  const uint64_t used_before = world.volume->space().usage().data_used_bytes;
  const InodeNumber ino = world.make_file("big");
  const auto bytes = pattern(1 << 20, 2);
  uint64_t written = 0;
  for (;; written += bytes.size()) {
    const auto result = world.filesystem->write(ino, written, bytes, {});
    if (!result) {
      REQUIRE(result.error() == Errc::no_space);
      break;
    }
  }
  CHECK(written > 16 << 20);
  CHECK(world.size_of(ino) == written);
  CHECK(world.allocated_of(ino) == written);
  CHECK(world.read(ino, written - bytes.size(), bytes.size()) == bytes);
  world.check_extents({keep, ino});
  // Preallocation gives back what it took, too.
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::allocate, 0, 1 << 30, true).error() ==
          Errc::no_space);
  CHECK(world.allocated_of(ino) == written);
  // Fill the rest block by block, then shrink in the middle of one.
  while (world.filesystem->write(ino, world.size_of(ino), pattern(kBlockSize, 3), {})) {
  }
  CHECK(world.resize(ino, 100'001));
  CHECK(world.size_of(ino) == 100'001);
  REQUIRE(world.resize(ino, 0));
  REQUIRE(world.filesystem->commit());
  CHECK(world.volume->space().usage().data_used_bytes == used_before);
  REQUIRE(world.transactions->commit(true));  // empty chunks go with the next one
  CHECK(world.volume->space().pinned_bytes() < 1 << 20);
  world.write(ino, 0, bytes);
  world.check_extents({keep, ino});
  CHECK(world.read(keep, 0, 200'000) == pattern(100'000, 1));
}

TEST_CASE("a volume filled and emptied a hundred times keeps its capacity") {
  TestFiles world;
  const std::vector<std::byte> block(kBlockSize, std::byte{7});
  std::vector<uint64_t> filled;
  const InodeNumber ino = world.make_file("f");
  for (int round = 0; round < 100; ++round) {
    uint64_t size = 0;
    for (uint64_t step = kMaxExtentBytes; step >= kBlockSize; step /= 4) {
      while (world.filesystem->allocate(ino, AllocateMode::allocate, size, step, false)) {
        size += step;
      }
    }
    REQUIRE(world.filesystem->write(ino, size, block, {}).error() == Errc::no_space);
    REQUIRE(world.filesystem->write(ino, 0, block, {}));  // what was allocated can be written
    filled.push_back(size);

    // Full as it is, cuts in the middle of blocks go on, and a commit has nodes.
    for (uint64_t at = 1; at < 50; ++at) {
      REQUIRE(
          world.filesystem->allocate(ino, AllocateMode::punch_hole, at * 65536 + 100, 32768, true));
    }
    REQUIRE(world.resize(ino, size - 5000));
    REQUIRE(world.filesystem->commit());
    REQUIRE(world.resize(ino, 0));
    REQUIRE(world.filesystem->commit());
  }
  CHECK(filled.front() > 48u << 20);
  for (const uint64_t size : filled) CHECK(size + (1 << 20) > filled.front());
}

TEST_CASE("a write that fails on the device changes nothing") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  world.write(ino, 0, pattern(150'000, 1));
  REQUIRE(world.filesystem->sync());
  const uint64_t used = world.volume->space().usage().data_used_bytes;
  world.devices.set_hook([](const alloc::IoRequest& request) -> Result<void> {
    if (request.op == alloc::IoOp::write) return Errc::io_error;
    return ok();
  });
  CHECK(world.filesystem->write(ino, 1000, pattern(130'000, 2), {}).error() == Errc::io_error);
  world.devices.set_hook({});
  CHECK(world.read(ino, 0, 160'000) == pattern(150'000, 1));
  CHECK(world.volume->space().usage().data_used_bytes == used);
  world.check_extents({ino});
}

TEST_CASE("a small write that fails later is told to the fsync of its file, and read as an error") {
  Quiet quiet;
  TestFiles world;
  const InodeNumber bad = world.make_file("bad"), good = world.make_file("good");
  world.write(good, 0, pattern(50'000, 1));
  REQUIRE(world.filesystem->sync());
  const uint64_t used = world.volume->space().usage().data_used_bytes;
  std::atomic<uint64_t> place{0};
  world.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op != alloc::IoOp::write || request.offset < alloc::kFirstChunkOffset) return ok();
    if (request.length == 2 * kBlockSize && place == 0) place = request.offset;
    const bool covers = request.offset <= place && place < request.offset + request.length;
    return place != 0 && covers ? Result<void>(Errc::io_error) : ok();
  });
  world.write(bad, 0, pattern(2 * kBlockSize, 2));
  CHECK(world.read(bad, 0, 60'000) == pattern(2 * kBlockSize, 2));
  CHECK(world.filesystem->sync(good));
  CHECK(world.filesystem->sync(bad).error() == Errc::io_error);
  CHECK(world.filesystem->sync(bad));  // it was told
  CHECK(world.read(good, 0, 60'000) == pattern(50'000, 1));
  std::vector<std::byte> into(kBlockSize);
  CHECK(world.filesystem->read(bad, 0, into).error() == Errc::io_error);
  CHECK(world.volume->space().usage().data_used_bytes == used + 2 * kBlockSize);
  world.write(bad, 0, pattern(3 * kBlockSize, 3));  // elsewhere
  CHECK(world.filesystem->sync(bad));
  CHECK(world.read(bad, 0, 60'000) == pattern(3 * kBlockSize, 3));
  world.devices.set_hook({});
  world.check_extents({bad, good});
}

TEST_CASE("each request to the device fails in turn") {
  Quiet quiet;
  TestFiles::Options options;
  options.cache_bytes = 64 << 20;  // no commit on the way: a failed one is fatal
  TestFiles world(options);
  const InodeNumber ino = world.make_file("a");
  const auto old = pattern(150'000, 1);
  const auto run = [&](int what) -> Result<void> {
    if (what == 0) {
      TRY(world.filesystem->write(ino, 5000, pattern(130'000, 2), {}));
      return ok();
    }
    if (what == 1) return world.resize(ino, 10'001);
    return world.filesystem->allocate(ino, AllocateMode::zero_range, 5001, 130'000, false);
  };
  std::vector<std::vector<std::byte>> expected(3, old);
  const auto written = pattern(130'000, 2);
  std::copy(written.begin(), written.end(), expected[0].begin() + 5000);
  expected[1].resize(10'001);
  std::fill_n(expected[2].begin() + 5001, 130'000, std::byte{0});
  for (int what = 0; what < 3; ++what) {
    for (int k = 1;; ++k) {
      REQUIRE(world.resize(ino, 0));
      world.write(ino, 0, old);
      REQUIRE(world.filesystem->sync());
      std::atomic<int> count{0};
      world.devices.set_hook([&](const alloc::IoRequest&) -> Result<void> {
        if (++count == k) return Errc::io_error;
        return ok();
      });
      const auto result = run(what);
      world.devices.set_hook({});
      const auto now = world.read(ino, 0, 160'000);
      world.check_extents({ino});
      if (result) {
        REQUIRE(now == expected[what]);
        // A read that failed once was good at the second attempt.
        if (count < k) break;
        continue;
      }
      REQUIRE(result.error() == Errc::io_error);
      // zero_range does its edges one after the other.
      REQUIRE((what == 2 || now == old));
      REQUIRE(now.size() == old.size());
    }
  }
}

TEST_CASE("a damaged block") {
  Quiet quiet;
  TestFiles::Options options;
  SECTION("with one copy is an error, and its neighbours can be read") {
    TestFiles world(options);
    const InodeNumber ino = world.make_file("a");
    world.write(ino, 0, pattern(40'960, 1));
    REQUIRE(world.filesystem->sync());
    const Extent extent = world.extents_of(ino).front();
    const auto place = world.volume->mapper().current()->for_read(extent.range(), 0).value()[0];
    world.disk().corrupt(place.offset.value + 8192, 1);
    std::vector<std::byte> bytes(40'960);
    CHECK(world.filesystem->read(ino, 0, bytes).error() == Errc::io_error);
    CHECK(place.device->counters().checksum_errors == 1);
    CHECK(world.read(ino, 0, 8192).size() == 8192);
    CHECK(world.read(ino, 12'288, 8192).size() == 8192);
    // Nor can part of it be overwritten; all of it can.
    CHECK(world.filesystem->write(ino, 8192, pattern(10, 1), {}).error() == Errc::io_error);
    world.write(ino, 8192, pattern(4096, 2));
    CHECK(world.filesystem->read(ino, 0, bytes));
  }
  SECTION("with two copies is repaired") {
    options.data_profile = alloc::Profile::dup;
    options.device_bytes = 128 << 20;
    TestFiles world(options);
    const InodeNumber ino = world.make_file("a");
    world.write(ino, 0, pattern(40'960, 1));
    REQUIRE(world.filesystem->sync());
    const Extent extent = world.extents_of(ino).front();
    const auto map = world.volume->mapper().current();
    const auto place = map->for_read(extent.range(), 0).value()[0];
    auto before = world.disk().clone();
    world.disk().corrupt(place.offset.value + 8000, 5000);
    CHECK(world.read(ino, 0, 40'960) == pattern(40'960, 1));
    CHECK(place.device->counters().checksum_errors == 3);
    CHECK(world.disk().same_content(*before));
    CHECK(quiet.lines >= 6);
    CHECK(world.read(ino, 0, 40'960) == pattern(40'960, 1));
    CHECK(place.device->counters().checksum_errors == 3);
  }
}

TEST_CASE("an interrupted truncate is finished") {
  TestFiles world;
  const InodeNumber ino = fragmented_file(world, "a", 100);
  const InodeNumber other{ino.value + 1};
  interrupt_truncate(world, ino, 2 * kBlockSize, OrphanKind::truncate);
  const auto has_mark = [&] {
    return world.transactions
        ->read([&](Access& access) -> Result<bool> {
          TRY(auto found, world.transactions->fs_tree().find(access, orphan_key(ino)));
          return found.has_value();
        })
        .value();
  };
  SECTION("at the next mount") {
    world.reopen();
    world.filesystem->start();
    world.filesystem->stop();
    CHECK(world.allocated_of(ino) == 2 * kBlockSize);
  }
  SECTION("when the file grows by a write") {
    world.write(ino, 50 * kBlockSize, pattern(kBlockSize, 1));
    CHECK(is_zero(world.read(ino, 2 * kBlockSize, 48 * kBlockSize)));
    CHECK(world.allocated_of(ino) == 3 * kBlockSize);
  }
  SECTION("when the file grows by a truncate") {
    REQUIRE(world.resize(ino, 100 * kBlockSize));
    CHECK(is_zero(world.read(ino, 2 * kBlockSize, 98 * kBlockSize)));
  }
  CHECK_FALSE(has_mark());
  world.check_extents({ino, other});
}

TEST_CASE("a file without a name that grows after an interrupted truncate shows no old bytes") {
  const int how = GENERATE(0, 1, 2, 3);
  TestFiles world;
  const InodeNumber ino = fragmented_file(world, "a", 100);
  SECTION("the truncate was interrupted first") {
    interrupt_truncate(world, ino, 2 * kBlockSize, OrphanKind::truncate);
    REQUIRE(world.filesystem->unlink(kRootInode, "a"));
  }
  SECTION("the name was removed first") {
    REQUIRE(world.filesystem->unlink(kRootInode, "a"));
    interrupt_truncate(world, ino, 2 * kBlockSize, OrphanKind::remove);
  }
  SECTION("and the first extents beyond the end are only preallocated") {
    REQUIRE(world.filesystem->unlink(kRootInode, "a"));
    const auto zeroed = AllocateMode::zero_range;
    REQUIRE(world.filesystem->allocate(ino, zeroed, 2 * kBlockSize, 80 * kBlockSize, false));
    interrupt_truncate(world, ino, 2 * kBlockSize, OrphanKind::remove);
  }
  if (how == 0) REQUIRE(world.resize(ino, 100 * kBlockSize));
  if (how == 1) world.write(ino, 99 * kBlockSize, std::vector<std::byte>(kBlockSize));
  if (how == 2) {
    fs::WriteFlags flags;
    flags.append = true;
    REQUIRE(world.filesystem->write(ino, 0, std::vector<std::byte>(98 * kBlockSize), flags));
  }
  if (how == 3) {
    const auto allocated = AllocateMode::allocate;
    REQUIRE(world.filesystem->allocate(ino, allocated, 99 * kBlockSize, kBlockSize, false));
  }
  CHECK(world.read(ino, 0, kBlockSize) == pattern(kBlockSize, 0));
  CHECK(is_zero(world.read(ino, 2 * kBlockSize, 98 * kBlockSize)));
  world.check_extents({ino, InodeNumber{ino.value + 1}});
}

TEST_CASE("a file without a name keeps preallocated space beyond its end when it grows") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  REQUIRE(world.filesystem->unlink(kRootInode, "a"));
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::allocate, 0, 1 << 20, true));
  world.write(ino, 0, pattern(10'000, 1));
  REQUIRE(world.resize(ino, 20'000));
  CHECK(world.allocated_of(ino) == 1 << 20);
}

TEST_CASE("many extents are cut, overwritten and dropped") {
  TestFiles world;
  const InodeNumber ino = fragmented_file(world, "a", 200);
  const InodeNumber other{ino.value + 1};
  CHECK(world.extents_of(ino).size() > 100);
  world.check_extents({ino, other});
  const auto bytes = pattern(150 * kBlockSize, 5);
  world.write(ino, 20 * kBlockSize + 100, bytes);
  CHECK(world.read(ino, 20 * kBlockSize + 100, bytes.size()) == bytes);
  CHECK(world.read(ino, 0, kBlockSize) == pattern(kBlockSize, 0));
  CHECK(world.read(ino, 199 * kBlockSize, kBlockSize) == pattern(kBlockSize, 199));
  world.check_extents({ino, other});
  REQUIRE(world.resize(other, 100));
  CHECK(world.read(other, 0, 1000).size() == 100);
  world.check_extents({ino, other});
  OwnContext own(world);
  REQUIRE(drop_content(own.context, ino));
  CHECK(world.allocated_of(ino) == 0);
  world.check_extents({ino, other});
}

TEST_CASE("without a commit a crash leaves the old content") {
  TestFiles world;
  const InodeNumber ino = world.make_file("a");
  world.write(ino, 0, pattern(100'000, 1));
  REQUIRE(world.filesystem->sync());
  world.write(ino, 0, pattern(100'000, 2));
  world.crash();
  CHECK(world.read(ino, 0, 200'000) == pattern(100'000, 1));
  world.check_extents({ino});
}

TEST_CASE("readers never see half a write") {
  TestFiles::Options options;
  options.cache_bytes = 1 << 20;
  TestFiles world(options);
  const InodeNumber ino = world.make_file("a");
  constexpr uint64_t kRecord = 20'000;  // no multiple of a block
  constexpr uint64_t kRecords = 8;
  const auto record = [](uint64_t stamp) {
    return std::vector<std::byte>(kRecord, static_cast<std::byte>(stamp % 255 + 1));
  };
  for (uint64_t i = 0; i < kRecords; ++i) world.write(ino, i * kRecord, record(i));
  std::atomic<bool> failed{false}, stop{false};
  std::vector<std::unique_ptr<Task>> tasks;
  for (uint64_t t = 0; t < 3; ++t) {
    tasks.push_back(world.runtime.spawn("writer", [&, t] {
      std::mt19937_64 random(t);
      for (int i = 0; i < 150; ++i) {
        const auto at = random() % kRecords * kRecord;
        if (!world.filesystem->write(ino, at, record(random()), {})) failed = true;
        if (i % 50 == 0 && !world.filesystem->sync()) failed = true;
      }
    }));
  }
  for (uint64_t t = 0; t < 2; ++t) {
    tasks.push_back(world.runtime.spawn("reader", [&, t] {
      std::mt19937_64 random(100 + t);
      std::vector<std::byte> bytes(kRecord);
      while (!stop) {
        const auto got = world.filesystem->read(ino, random() % kRecords * kRecord, bytes);
        if (!got || got.value() != kRecord) failed = true;
        for (std::byte b : bytes) {
          if (b != bytes[0]) failed = true;
        }
      }
    }));
  }
  for (size_t t = 0; t < 3; ++t) tasks[t]->join();
  stop = true;
  for (auto& task : tasks) task->join();
  CHECK_FALSE(failed);
  world.check_extents({ino});
}

TEST_CASE("appenders do not overwrite each other") {
  TestFiles world;
  const InodeNumber ino = world.make_file("log");
  std::vector<std::unique_ptr<Task>> tasks;
  std::atomic<bool> failed{false};
  for (int t = 0; t < 4; ++t) {
    tasks.push_back(world.runtime.spawn("appender", [&, t] {
      WriteFlags append;
      append.append = true;
      const std::vector<std::byte> line(1000, static_cast<std::byte>(t + 1));
      for (int i = 0; i < 60; ++i) {
        if (!world.filesystem->write(ino, 0, line, append)) failed = true;
      }
    }));
  }
  for (auto& task : tasks) task->join();
  CHECK_FALSE(failed);
  CHECK(world.size_of(ino) == 4 * 60 * 1000);
  const auto bytes = world.read(ino, 0, 4 * 60 * 1000);
  for (size_t i = 0; i < bytes.size(); i += 1000) {
    CHECK(std::count(bytes.begin() + static_cast<ptrdiff_t>(i),
                     bytes.begin() + static_cast<ptrdiff_t>(i + 1000), bytes[i]) == 1000);
  }
}

TEST_CASE("writes that make a file longer are stored side by side") {
  TestFiles world;
  const InodeNumber ino = world.make_file("growing");
  constexpr uint64_t kPart = 64 << 10;
  constexpr unsigned kParts = 3;
  std::mt19937_64 random(8);
  std::vector<std::vector<std::byte>> parts;
  for (unsigned i = 0; i < kParts; ++i) parts.push_back(random_bytes(random, kPart));
  world.write(ino, 0, parts[0]);

  // Each is held at the device until the other has come as far.
  std::mutex mutex;
  std::condition_variable changed;
  unsigned arrived = 0;
  bool met = true;
  world.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op != alloc::IoOp::write || request.length != kPart) return ok();
    std::unique_lock lock(mutex);
    ++arrived;
    changed.notify_all();
    met &= changed.wait_for(lock, std::chrono::minutes(1), [&] { return arrived == kParts - 1; });
    return ok();
  });
  std::vector<std::unique_ptr<Task>> tasks;
  for (unsigned i = 1; i < kParts; ++i) {
    tasks.push_back(world.runtime.spawn(
        "writer", [&, i] { (void)world.filesystem->write(ino, i * kPart, parts[i], {}); }));
  }
  for (auto& task : tasks) task->join();
  world.devices.set_hook({});
  CHECK(met);
  CHECK(world.size_of(ino) == kParts * kPart);
  for (unsigned i = 0; i < kParts; ++i) CHECK(world.read(ino, i * kPart, kPart) == parts[i]);
  world.check_extents({ino});
}

TEST_CASE("writers side by side fill one preallocated extent in place") {
  TestFiles world;
  const InodeNumber ino = world.make_file("preallocated");
  constexpr uint64_t kBlocks = 512;
  constexpr int kWriters = 4;
  REQUIRE(world.filesystem->allocate(ino, AllocateMode::allocate, 0, kBlocks * kBlockSize, false));
  const uint64_t allocated = world.allocated_of(ino);
  std::vector<uint64_t> order(kBlocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
  std::vector<std::unique_ptr<Task>> tasks;
  std::atomic<int> failed{0};
  for (int t = 0; t < kWriters; ++t) {
    tasks.push_back(world.runtime.spawn("writer", [&, t] {
      for (size_t i = static_cast<size_t>(t); i < kBlocks; i += kWriters) {
        const auto block = pattern(kBlockSize, static_cast<int>(order[i]));
        if (!world.filesystem->write(ino, order[i] * kBlockSize, block, {})) ++failed;
      }
    }));
  }
  for (auto& task : tasks) task->join();
  CHECK(failed == 0);
  CHECK(world.allocated_of(ino) == allocated);
  for (uint64_t i = 0; i < kBlocks; ++i) {
    CHECK(world.read(ino, i * kBlockSize, kBlockSize) == pattern(kBlockSize, static_cast<int>(i)));
  }
  world.check_extents({ino});
}
