// SPDX-License-Identifier: MIT
// Which devices are believed to be members: a uuid is not enough.
#include "alloc/base/uuid.h"
#include "alloc/volume/volume.h"
#include "alloc/volume/volume_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::alloc::test;

namespace {

/// A volume of two devices with three commits, closed again.
struct TwoMembers : TestDisks {
  TwoMembers() : TestDisks({{"mem:a", 64 * kMiB}, {"mem:b", 64 * kMiB}, {"mem:c", 64 * kMiB}}) {
    auto volume = create({"mem:a", "mem:b"}).value();
    for (uint8_t g : {1, 2, 3}) {
      (void)put(*volume, g, Generation(g)).value();
      REQUIRE(commit(*volume, g));
    }
  }

  Superblock superblock_of(const std::string& path) {
    return read_superblock(devices.engine(), *devices.open(path, {}).value()).value();
  }
  void set_superblock(const std::string& path, const Superblock& superblock) {
    REQUIRE(write_superblock(devices.engine(), *devices.open(path, {}).value(), superblock));
  }
  /// What a power cut leaves that comes between copy 0 of mem:a and that of mem:b. `a`, `b`: their
  /// superblocks of the commit before.
  void miss_last_commit(const Superblock& a, const Superblock& b) {
    set_superblock("mem:b", b);
    const AlignedBuffer copy = encode(a, 1).value();
    REQUIRE(devices.engine().write(*devices.open("mem:a", {}).value(), kSuperblockOffsets[1],
                                   copy.span()));
  }
  /// Mounts once and commits up to `last`, with new chunks.
  void go_on(uint64_t last, bool new_chunks = true) {
    auto volume = open({"mem:a"}).value();
    for (uint64_t g = volume->superblock().generation.value + 1; g <= last; ++g) {
      if (new_chunks) REQUIRE(volume->space().allocate_data(8 * kMiB, Generation(g)));
      REQUIRE(commit(*volume, g));
    }
  }
  /// Opens it from each member, for reading and for writing. It must be refused with the path of
  /// `path`, its uuid and `words`, and nothing may be written.
  void refused(const std::string& path, const std::vector<std::string>& words) {
    const auto a = devices.disk("mem:a").clone(), b = devices.disk("mem:b").clone();
    const std::string uuid = superblock_of(path).device.to_string();
    for (const std::string first : {"mem:a", "mem:b"}) {
      for (const bool read_only : {true, false}) {
        Volume::OpenOptions options;
        options.read_only = read_only;
        const auto opened = open({first}, options);
        REQUIRE(!opened);
        INFO(opened.error().message());
        CHECK(opened.error() == Errc::bad_superblock);
        CHECK(opened.error().message().starts_with(path + " "));
        CHECK(opened.error().message().find(uuid) != std::string::npos);
        for (const std::string& word : words) {
          CHECK(opened.error().message().find(word) != std::string::npos);
        }
      }
    }
    CHECK(devices.disk("mem:a").same_content(*a));
    CHECK(devices.disk("mem:b").same_content(*b));
  }
};

}  // namespace

TEST_CASE_METHOD(TwoMembers, "a member put back from an older copy is refused") {
  const auto old = devices.disk("mem:b").clone();
  go_on(5);
  devices.insert("mem:b", old);
  refused("mem:b", {"has generation 3", "mem:a has 5"});
}

TEST_CASE_METHOD(TwoMembers, "a copy of one commit ago is refused if chunks were made since") {
  const auto old = devices.disk("mem:b").clone();
  go_on(4);
  devices.insert("mem:b", old);
  refused("mem:b", {"generation 3", "chunk table of generation 4", "mem:a"});
}

TEST_CASE_METHOD(TwoMembers, "a copy of the last commit but one is refused") {
  const auto old = devices.disk("mem:b").clone();
  SECTION("of the same mount, or of the one before") {
    go_on(4, false);
  }
  SECTION("as far as a replay of the log goes") {
    go_on(3 + kReplayStep, false);
  }
  devices.insert("mem:b", old);
  refused("mem:b", {"has generation 3", "put back from an older copy", "mem:a"});
  Volume::OpenOptions degraded;
  degraded.degraded = true;
  auto volume = open({"mem:b"}, degraded);  // there are no chunks on mem:b
  REQUIRE(volume);
  CHECK(volume.value()->devices()[1].out);
}

TEST_CASE_METHOD(TwoMembers, "members that went on without each other are refused") {
  const auto old_a = devices.disk("mem:a").clone(), old_b = devices.disk("mem:b").clone();
  go_on(4);
  const auto new_b = devices.disk("mem:b").clone();
  devices.insert("mem:a", old_a);
  devices.insert("mem:b", old_b);
  go_on(4);
  devices.insert("mem:b", new_b);
  // Which of them is called wrong depends on which is read first.
  for (const std::string first : {"mem:a", "mem:b"}) {
    const auto opened = open({first});
    REQUIRE(!opened);
    INFO(opened.error().message());
    CHECK(opened.error() == Errc::bad_superblock);
    CHECK(opened.error().message().find("both have generation 4") != std::string::npos);
  }
}

TEST_CASE_METHOD(TwoMembers, "a crash during a commit: the member that missed it gets it at once") {
  const Superblock before_a = superblock_of("mem:a"), before = superblock_of("mem:b");
  go_on(4);
  const Superblock after = superblock_of("mem:b");
  miss_last_commit(before_a, before);
  {
    Volume::OpenOptions options;
    options.read_only = true;
    REQUIRE(open({"mem:b"}, options));
    CHECK(superblock_of("mem:b") == before);
  }
  {
    auto volume = open({"mem:b"});
    REQUIRE(volume);
    CHECK(volume.value()->superblock().generation == Generation(4));
  }
  CHECK(superblock_of("mem:b") == after);
  // Crashes one after the other, each in the first commit of a mount.
  for (uint64_t g = 5; g < 9; ++g) {
    REQUIRE(open({"mem:a"}));
    const Superblock last_a = superblock_of("mem:a"), last = superblock_of("mem:b");
    CHECK(last.generation == Generation(g - 1));
    go_on(g, false);
    miss_last_commit(last_a, last);
  }
  CHECK(open({"mem:a"}));
}

TEST_CASE_METHOD(TwoMembers, "copy 1 of the last commit, lost in a crash, is written at once") {
  std::vector<std::byte> old_a(kBlockSize), old_b(kBlockSize);
  devices.disk("mem:a").read(kSuperblockOffsets[1], old_a);
  devices.disk("mem:b").read(kSuperblockOffsets[1], old_b);
  go_on(4);
  devices.disk("mem:a").write(kSuperblockOffsets[1], old_a);
  devices.disk("mem:b").write(kSuperblockOffsets[1], old_b);
  const auto generation_of_copy = [this](const std::string& path) {
    auto device = devices.open(path, {}).value();
    return read_superblock_copy(devices.engine(), *device, 1).value().generation;
  };
  Volume::OpenOptions options;
  options.read_only = true;
  REQUIRE(open({"mem:a"}, options));
  CHECK(generation_of_copy("mem:a") == Generation(3));
  REQUIRE(open({"mem:a"}));
  // If copy 0 is torn by the next commit, the volume is at generation 4 and not at 3.
  CHECK(generation_of_copy("mem:a") == Generation(4));
  CHECK(generation_of_copy("mem:b") == Generation(4));
  devices.disk("mem:a").corrupt(kSuperblockOffsets[0], kBlockSize);
  devices.disk("mem:b").corrupt(kSuperblockOffsets[0], kBlockSize);
  CHECK(open({"mem:a"}).value()->superblock().generation == Generation(4));
}

TEST_CASE_METHOD(TwoMembers,
                 "the k-th request fails while a member gets the commit that it missed") {
  const Superblock before_a = superblock_of("mem:a"), before = superblock_of("mem:b");
  go_on(4);
  bool failed = true;
  for (unsigned k = 1; failed; ++k) {
    REQUIRE(k < 100);
    miss_last_commit(before_a, before);
    failed = false;
    unsigned count = 0;
    devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.op == IoOp::read || ++count != k) return ok();
      failed = true;
      return Error(Errc::io_error);
    });
    const bool opened = open({"mem:a"}).has_value();
    devices.set_hook(nullptr);
    CHECK(opened == !failed);
    CHECK(open({"mem:a"}));
  }
}

TEST_CASE_METHOD(TwoMembers, "the first commit after a replay of the log skips generations") {
  const Superblock before_a = superblock_of("mem:a"), before = superblock_of("mem:b");
  go_on(4);
  for (const std::string path : {"mem:a", "mem:b"}) {
    Superblock later = superblock_of(path);
    later.generation = before.generation + kReplayStep;
    set_superblock(path, later);
  }
  const Superblock after = superblock_of("mem:a");
  miss_last_commit(before_a, before);
  CHECK(open({"mem:a"}));
  CHECK(superblock_of("mem:b").generation == after.generation);
  // Three commits of one mount are not that.
  Superblock same_mount = before;
  same_mount.log_id = after.log_id;
  set_superblock("mem:b", same_mount);
  refused("mem:b", {"has generation 3"});
}

TEST_CASE_METHOD(TwoMembers,
                 "an image that claims the uuids of a volume does not get its devices") {
  // mem:c says that it is devid 1 of the volume of mem:b, and knows its device table.
  const Superblock victim = superblock_of("mem:b");
  const auto before = devices.disk("mem:b").clone();
  const auto tried = [&](uint64_t generation, bool more_devices) {
    Superblock evil = superblock_of("mem:a");
    evil.generation = Generation(generation);
    evil.log_id = 666;
    evil.chunk_table.generation = std::min(evil.chunk_table.generation, evil.generation);
    evil.chunk_table.checksum ^= 1;
    evil.devices[0].path = "mem:c";
    if (more_devices) evil.devices.push_back({DeviceId(3), Uuid::generate(runtime), 64 * kMiB, ""});
    set_superblock("mem:c", evil);
    const auto opened = open({"mem:c"});
    CHECK(devices.disk("mem:b").same_content(*before));
    REQUIRE(!opened);
    INFO(opened.error().message());
    return opened.error().code;
  };
  const uint64_t now = victim.generation.value;
  for (const uint64_t generation : {now, now + 1, now + 2, now + kReplayStep, now + 1000}) {
    INFO(generation);
    CHECK(tried(generation, false) == Errc::bad_superblock);
    CHECK(tried(generation, true) == Errc::bad_superblock);
  }
}

TEST_CASE_METHOD(TwoMembers, "a member must know the devices that the others name") {
  Superblock other = superblock_of("mem:a");
  other.generation = other.generation + 1;
  other.devices.push_back({DeviceId(3), Uuid::generate(runtime), 64 * kMiB, "mem:c"});
  set_superblock("mem:a", other);
  const auto opened = open({"mem:a"});
  REQUIRE(!opened);
  INFO(opened.error().message());
  CHECK(opened.error().message().find("mem:b") == 0);
  CHECK(opened.error().message().find("does not know the devices") != std::string::npos);
}

TEST_CASE_METHOD(TwoMembers, "an image that names a device as its successor does not open it") {
  // mem:c says: I am about to be replaced by the device on mem:a, which has become the member.
  const Superblock victim = superblock_of("mem:a");
  Superblock evil = victim;
  evil.device = Uuid::generate(runtime);
  evil.devices[0] = {DeviceId(1), evil.device, 64 * kMiB, "mem:c"};
  evil.pending_swap = Superblock::Succession{DeviceId(1), victim.device, "mem:a"};
  evil.log_id = 666;
  evil.generation = Generation(1);
  evil.chunk_table.generation = Generation(1);
  set_superblock("mem:c", evil);
  const auto before = devices.disk("mem:a").clone();
  const auto opened = open({"mem:c"});
  REQUIRE(!opened);
  CHECK(opened.error() == Errc::replaced_device);
  CHECK(devices.disk("mem:a").same_content(*before));
}
