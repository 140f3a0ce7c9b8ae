// SPDX-License-Identifier: MIT
// Devices that fail, are missing or come back: which failure the volume survives, and what its
// superblocks say then.
#include "alloc/base/uuid.h"
#include "alloc/volume/volume.h"
#include "alloc/volume/volume_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::alloc::test;

namespace {

/// Volumes whose devices can be made to fail.
struct Pool : TestDisks {
  Pool() : TestDisks({}) {
    for (const auto& path : paths) devices.add(path, 64 * kMiB);
    devices.set_hook([this](const IoRequest& request) -> Result<void> {
      if (request.op == IoOp::read || request.device->path() != failing) return ok();
      if (skip-- > 0) return ok();
      if (--failures < 0) return ok();
      return Error(with, "injected");
    });
  }
  std::unique_ptr<Volume> make(size_t count, Profile profile) {
    Volume::CreateOptions options;
    options.data_profile = options.metadata_profile = profile;
    options.chunk_size = 4 * kMiB;
    auto volume =
        create({paths.begin(), paths.begin() + static_cast<ptrdiff_t>(count)}, options).value();
    first = put(*volume, 1, Generation(1)).value();
    REQUIRE(commit(*volume, 1));
    return volume;
  }
  /// `path` fails from now on, or from its `after`-th write or flush on, `times` times.
  void fail(const std::string& path, int after = 0, int times = 1000000,
            Errc how = Errc::io_error) {
    failing = path;
    skip = after;
    failures = times;
    with = how;
  }
  void heal() { failing.clear(); }
  Superblock superblock_of(const std::string& path) {
    DeviceOpener::Options how;
    how.read_only = true;
    how.exclusive = false;  // the volume may be open
    return read_superblock(devices.engine(), *devices.open(path, how).value()).value();
  }
  static bool is_out(const Volume& volume, uint64_t devid) {
    return volume.devices().at(devid - 1).out.has_value();
  }
  /// Whether any copy has it, and all copies on devices that are in.
  static bool all_copies_hold(Volume& volume, LogicalOffset at, uint8_t seed) {
    const auto expected = pattern(seed);
    const auto guard = volume.acquire_map();
    unsigned read = 0;
    for (unsigned copy = 0; copy < volume.copies_at(guard, at); ++copy) {
      if (!guard.map().has_copy(at, copy)) continue;
      AlignedBuffer found(65536);
      if (!volume.read(guard, at, found.span(), copy)) return false;
      if (std::memcmp(found.data(), expected.data(), found.size()) != 0) return false;
      ++read;
    }
    return read > 0;
  }

  std::vector<std::string> paths{"mem:a", "mem:b", "mem:c", "mem:d"};
  LogicalOffset first;
  std::string failing;
  int skip = 0, failures = 0;
  Errc with = Errc::io_error;
};

Volume::OpenOptions degraded() {
  Volume::OpenOptions options;
  options.degraded = true;
  return options;
}

TEST_CASE("a mirror's device that fails is put out; writes, commits and the next open go on") {
  Pool pool;
  LogicalOffset second, third;
  {
    auto volume = pool.make(2, Profile::raid1);
    pool.fail("mem:b");
    second = put(*volume, 2, Generation(2)).value();
    CHECK(pool.is_out(*volume, 2));
    CHECK(volume->device(DeviceId(2)) == nullptr);
    CHECK(volume->devices()[1].out->whole_until == Generation(1));
    REQUIRE(commit(*volume, 2));
    pool.heal();  // it is not written to any more, whatever it could do
    third = put(*volume, 3, Generation(3)).value();
    REQUIRE(commit(*volume, 3));
    CHECK(pool.superblock_of("mem:a").devices[1].out);
    CHECK(pool.superblock_of("mem:b").generation == Generation(1));
    CHECK(pool.superblock_of("mem:b").devices[1].out == std::nullopt);
  }
  for (const auto& paths :
       std::vector<std::vector<std::string>>{{"mem:a"}, {"mem:a", "mem:b"}, {"mem:b", "mem:a"}}) {
    auto volume = pool.open(paths).value();
    CHECK(pool.is_out(*volume, 2));
    CHECK(pool.all_copies_hold(*volume, pool.first, 1));
    CHECK(pool.all_copies_hold(*volume, second, 2));
    CHECK(pool.all_copies_hold(*volume, third, 3));
  }
  // Not even needed any more, and no option.
  pool.devices.remove("mem:b");
  CHECK(pool.open({"mem:a"}).value()->superblock().generation == Generation(3));
}

TEST_CASE("whichever write or flush of a device fails once: nothing acknowledged is lost") {
  for (int k = 0;; ++k) {
    INFO("request " << k);
    Pool pool;
    LogicalOffset second, third;
    bool has_failed = false;
    {
      auto volume = pool.make(2, Profile::raid1);
      pool.fail("mem:b", k, 1);
      second = put(*volume, 2, Generation(2)).value();
      REQUIRE(commit(*volume, 2));
      // C5: the commit has returned, so the other one says it.
      const auto is_said = [&] { return pool.superblock_of("mem:a").devices[1].out.has_value(); };
      CHECK(is_said() == (pool.failures < 1));
      third = put(*volume, 3, Generation(3)).value();
      REQUIRE(commit(*volume, 3));
      has_failed = pool.failures < 1;
      CHECK(is_said() == has_failed);
      CHECK(pool.is_out(*volume, 2) == has_failed);
    }
    auto volume = pool.open({"mem:b", "mem:a"}).value();
    CHECK(pool.is_out(*volume, 2) == has_failed);
    CHECK(pool.all_copies_hold(*volume, pool.first, 1));
    CHECK(pool.all_copies_hold(*volume, second, 2));
    CHECK(pool.all_copies_hold(*volume, third, 3));
    volume.reset();
    pool.devices.remove("mem:b");
    volume = pool.open({"mem:a"}, degraded()).value();
    CHECK(pool.all_copies_hold(*volume, third, 3));
    if (!has_failed) break;
    REQUIRE(k < 100);
  }
}

TEST_CASE("a crash before the next commit: the device that failed is as good as the last commit") {
  Pool pool;
  {
    auto volume = pool.make(2, Profile::raid1);
    pool.fail("mem:b");
    (void)put(*volume, 2, Generation(2)).value();
  }
  pool.heal();
  auto volume = pool.open({"mem:b"}).value();
  CHECK_FALSE(pool.is_out(*volume, 2));
  CHECK(pool.all_copies_hold(*volume, pool.first, 1));
}

TEST_CASE("what no other device has keeps its device in: the error is the user's") {
  for (const Profile profile : {Profile::single, Profile::dup, Profile::raid0}) {
    INFO(name_of(profile));
    Pool pool;
    auto volume = pool.make(2, profile);
    // Until there is a chunk on each.
    for (int i = 0; i < 4; ++i) REQUIRE(volume->space().allocate_data(4 * kMiB, Generation(2)));
    for (const std::string path : {"mem:a", "mem:b"}) {
      pool.fail(path);
      CHECK_FALSE(commit(*volume, 2));
      pool.heal();
    }
    CHECK_FALSE(pool.is_out(*volume, 1));
    CHECK_FALSE(pool.is_out(*volume, 2));
    REQUIRE_FALSE(volume->put_out(DeviceId(1), "a test"));
    CHECK(volume->put_out(DeviceId(1), "a test").error() == Errc::invalid_argument);
  }
}

TEST_CASE("the last copy of a mirror is not put out") {
  Pool pool;
  auto volume = pool.make(2, Profile::raid1);
  REQUIRE(volume->put_out(DeviceId(1), "a test"));
  REQUIRE(volume->put_out(DeviceId(1), "once more"));
  CHECK(volume->put_out(DeviceId(9), "a test").error() == Errc::not_found);
  pool.fail("mem:b");
  CHECK(put(*volume, 2, Generation(2)).error() == Errc::io_error);
  pool.heal();
  CHECK(pool.is_out(*volume, 1));
  CHECK_FALSE(pool.is_out(*volume, 2));
  REQUIRE(commit(*volume, 2));
}

TEST_CASE("want of room or of memory is not the device's fault") {
  for (const Errc how : {Errc::device_full, Errc::out_of_memory}) {
    Pool pool;
    auto volume = pool.make(2, Profile::raid1);
    pool.fail("mem:b", 0, 1000, how);
    CHECK(put(*volume, 2, Generation(2)).error() == how);
    CHECK_FALSE(pool.is_out(*volume, 2));
  }
}

TEST_CASE("C5: the fsync log is not used until a commit has said that a device is out") {
  Pool pool;
  auto volume = pool.make(2, Profile::raid1);
  const auto append = [&](LogChain& chain) {
    LogBatch batch;
    batch.running = volume->superblock().generation + 1;
    batch.payload = {std::byte{7}};
    std::vector<LogWrite> writes;
    writes.push_back(std::move(*chain.append(batch, volume->devices())));
    return volume->write_log(writes, false);
  };
  auto chain = *volume->log_on(Generation(1));
  REQUIRE(append(chain).value());
  SECTION("put out before") {
    REQUIRE(volume->put_out(DeviceId(2), "a test"));
  }
  SECTION("by the batch's write") {
    pool.fail("mem:b");
  }
  SECTION("by its flush") {
    pool.fail("mem:b", 1);
  }
  const auto written = append(chain);
  REQUIRE(!written);
  CHECK(written.error() == Errc::missing_device);
  CHECK(pool.is_out(*volume, 2));
  REQUIRE(commit(*volume, 2));
  chain = *volume->log_on(Generation(2));
  CHECK(append(chain).value());
}

TEST_CASE("C5: no batch says that its data is flushed if a device has failed to flush it") {
  Pool pool;
  auto volume = pool.make(2, Profile::raid1);
  auto chain = *volume->log_on(Generation(1));
  LogBatch batch;
  batch.running = Generation(2);
  batch.payload = {std::byte{7}};
  batch.data_flushed = true;
  std::vector<LogWrite> writes;
  writes.push_back(std::move(*chain.append(batch, volume->devices())));
  pool.fail("mem:b", 0, 1);
  const auto written = volume->write_log(writes, true);
  REQUIRE(!written);
  CHECK(written.error() == Errc::missing_device);
  CHECK(pool.is_out(*volume, 2));
  // A crash now: nothing says that mem:b is out, so nothing may name what it lacks.
  volume.reset();
  volume = pool.open({"mem:a"}).value();
  CHECK_FALSE(pool.is_out(*volume, 2));
  CHECK(volume->found_log().batches.empty());
}

TEST_CASE("copy 1 of a superblock is written when copy 0 is durable on all members") {
  Pool pool;
  auto volume = pool.make(3, Profile::raid1);
  // mem:b keeps the superblock of the commit before: the flush that makes copy 0 durable fails.
  int flushes_of_b = 0;
  bool failed = false;
  std::vector<uint64_t> later;  // superblocks written to mem:a after that
  pool.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    const std::string& path = request.device->path();
    if (path == "mem:b" && request.op == IoOp::flush && ++flushes_of_b == 2) {
      failed = true;
      return Error(Errc::io_error, "injected");
    }
    const bool is_superblock =
        request.op == IoOp::write && path == "mem:a" &&
        (request.offset == kSuperblockOffsets[0] || request.offset == kSuperblockOffsets[1]);
    if (failed && is_superblock) later.push_back(request.offset);
    return ok();
  });
  REQUIRE(commit(*volume, 2));
  pool.devices.set_hook(nullptr);
  CHECK(pool.is_out(*volume, 2));
  CHECK(later == std::vector<uint64_t>{kSuperblockOffsets[0], kSuperblockOffsets[1]});
  CHECK(pool.superblock_of("mem:a").devices[1].out);
}

TEST_CASE("a missing member keeps a volume from opening, unless it may be degraded") {
  Pool pool;
  LogicalOffset second;
  { auto volume = pool.make(2, Profile::raid1); }
  const auto b = pool.devices.disk_pointer("mem:b");
  pool.devices.remove("mem:b");
  const auto refused = pool.open({"mem:a"});
  REQUIRE(!refused);
  CHECK(refused.error() == Errc::missing_device);
  CHECK(refused.error().message().find("-o degraded") != std::string::npos);
  {
    auto volume = pool.open({"mem:a"}, degraded()).value();
    CHECK(pool.is_out(*volume, 2));
    CHECK(volume->superblock().devices != volume->devices());  // so that the mount commits at once
    CHECK(pool.all_copies_hold(*volume, pool.first, 1));
    second = put(*volume, 2, Generation(2)).value();
    REQUIRE(commit(*volume, 2));
  }
  pool.devices.insert("mem:b", b);
  const auto before = b->clone();
  auto volume = pool.open({"mem:b", "mem:a"}).value();  // it has come back, and is not trusted
  CHECK(pool.is_out(*volume, 2));
  const Superblock left = pool.superblock_of("mem:b");
  CHECK(volume->devices()[1].out->left(left.generation, left.log_id));
  CHECK(pool.all_copies_hold(*volume, second, 2));
  REQUIRE(commit(*volume, 3));
  CHECK(b->same_content(*before));
}

TEST_CASE("members that cannot be used are left out of a degraded volume, and not written to") {
  Pool pool;
  { auto volume = pool.make(3, Profile::raid1); }
  const auto old = pool.devices.disk("mem:c").clone();
  {
    auto volume = pool.open({"mem:a"}).value();
    for (uint64_t g : {2, 3, 4, 5}) REQUIRE(commit(*volume, g));
  }
  SECTION("put back from an older copy") {
    pool.devices.insert("mem:c", old);
  }
  SECTION("taken away") {
    pool.devices.remove("mem:c");
  }
  SECTION("overwritten") {
    std::vector<std::byte> garbage(8 * kMiB, std::byte{0x5a});
    pool.devices.disk("mem:c").write(0, garbage);
  }
  CHECK(!pool.open({"mem:a"}));
  auto volume = pool.open({"mem:a"}, degraded()).value();
  CHECK(pool.is_out(*volume, 3));
  CHECK_FALSE(pool.is_out(*volume, 2));
  CHECK(pool.all_copies_hold(*volume, pool.first, 1));
  REQUIRE(commit(*volume, 6));
}

TEST_CASE("a member that missed the last commit and fails is left out of a degraded volume") {
  Pool pool;
  { auto volume = pool.make(2, Profile::raid1); }
  // The power failed between copy 0 of mem:a and that of mem:b.
  const auto old_b = pool.devices.disk("mem:b").clone();
  std::vector<std::byte> copy(kBlockSize);
  pool.devices.disk("mem:a").read(kSuperblockOffsets[1], copy);
  {
    auto volume = pool.open({"mem:a"}).value();
    REQUIRE(commit(*volume, 2));
  }
  pool.devices.disk("mem:a").write(kSuperblockOffsets[1], copy);
  pool.devices.insert("mem:b", old_b);
  for (int k : {0, 1}) {  // the write of copy 0, its flush
    INFO("request " << k);
    pool.fail("mem:b", k, 1);
    CHECK(pool.open({"mem:a"}).error() == Errc::io_error);
    pool.heal();
    pool.devices.insert("mem:b", old_b->clone());
  }
  pool.fail("mem:b");
  auto volume = pool.open({"mem:a"}, degraded()).value();
  CHECK(pool.is_out(*volume, 2));
  CHECK(pool.all_copies_hold(*volume, pool.first, 1));
  REQUIRE(commit(*volume, 3));
}

TEST_CASE("without a copy of every chunk a volume can only be read") {
  Pool pool;
  {
    auto volume = pool.make(2, Profile::raid0);
    REQUIRE(commit(*volume, 2));
  }
  pool.devices.remove("mem:b");
  const auto refused = pool.open({"mem:a"}, degraded());
  REQUIRE(!refused);
  CHECK(refused.error() == Errc::missing_device);
  CHECK(refused.error().message().find("-o ro") != std::string::npos);
  auto options = degraded();
  options.read_only = true;
  CHECK(pool.open({"mem:a"}, options));
}

TEST_CASE("two halves of a mirror that were written separately are not put together") {
  Pool pool;
  { auto volume = pool.make(2, Profile::raid1); }
  for (const auto& [alone, other, commits] :
       {std::tuple("mem:a", "mem:b", 3), std::tuple("mem:b", "mem:a", 2)}) {
    const auto taken = pool.devices.disk_pointer(other);
    pool.devices.remove(other);
    auto volume = pool.open({alone}, degraded()).value();
    for (int i = 0; i < commits; ++i) {
      REQUIRE(commit(*volume, volume->superblock().generation.value + 1));
    }
    volume.reset();
    pool.devices.insert(other, taken);
  }
  for (const std::string path : {"mem:a", "mem:b"}) {
    const auto refused = pool.open({path});
    REQUIRE(!refused);
    CHECK(refused.error() == Errc::bad_superblock);
    for (const char* word : {"mem:a", "mem:b", "separately", "generation 1", " 4 ", " 3 "}) {
      INFO(refused.error().message());
      CHECK(refused.error().message().find(word) != std::string::npos);
    }
  }
  auto volume = pool.open({"mem:a"}, degraded()).value();  // the newer one, by the user's wish
  CHECK(volume->superblock().generation == Generation(4));
  CHECK(pool.is_out(*volume, 2));
  const Superblock b = pool.superblock_of("mem:b");
  CHECK_FALSE(volume->devices()[1].out->left(b.generation, b.log_id));
}

TEST_CASE("C9: chunks made while a device is out have all their stripes, and a copy that is in") {
  struct Case {
    size_t devices;
    Profile profile;
    std::vector<uint64_t> out;
  };
  for (const Case& c : {Case{2, Profile::raid1, {1}}, Case{3, Profile::raid1, {2}},
                        Case{4, Profile::raid10, {1}}, Case{4, Profile::raid10, {4}}}) {
    INFO(name_of(c.profile) << " on " << c.devices);
    Pool pool;
    auto volume = pool.make(c.devices, c.profile);
    for (uint64_t devid : c.out) REQUIRE(volume->put_out(DeviceId(devid), "a test"));
    for (int i = 0; i < 6; ++i) REQUIRE(volume->space().allocate_data(4 * kMiB, Generation(2)));
    const auto map = volume->mapper().current();
    CHECK(map->chunks_lost() == 0);
    for (const auto& chunk : map->chunks()) {
      if (chunk->birth < Generation(2)) continue;
      CHECK(chunk->stripes.size() == (c.profile == Profile::raid1 ? 2 : 4));
      if (c.devices == 2 || c.profile == Profile::raid10) continue;
      for (const Stripe& stripe : chunk->stripes) CHECK(stripe.device != DeviceId(c.out[0]));
    }
    REQUIRE(commit(*volume, 2));
  }
}

}  // namespace
