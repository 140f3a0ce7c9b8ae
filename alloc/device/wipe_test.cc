// SPDX-License-Identifier: MIT
// Wiping of foreign signatures, judged by libblkid and by looking at the bytes.
#include "alloc/device/wipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "alloc/device/system_devices.h"
#include "test/support/catch.h"
#include "test/support/scratch_device.h"
#include "test/support/values.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;
using test::LoopDevice;
using test::ScratchDirectory;
constexpr uint64_t KiB = 1024;

/// Writes to the file or device at `path`, at any offset.
void put(const std::string& path, uint64_t offset, std::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes.size()));
  REQUIRE(fsync(fd) == 0);
  close(fd);
}

std::string get(const std::string& path, uint64_t offset, size_t length) {
  std::string bytes(length, '?');
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(pread(fd, bytes.data(), length, static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(length));
  close(fd);
  return bytes;
}

bool is_zero(const std::string& bytes) {
  return bytes.find_first_not_of('\0') == std::string::npos;
}

/// The four labels of a ZFS member: two in the first 512 KiB, two in the last. The second half of a
/// label is a ring of uberblocks, 1 KiB each.
void put_zfs_labels(const std::string& path, uint64_t size) {
  const uint64_t magic = 0x00bab10c;
  std::string uberblock(KiB, '\0');
  std::memcpy(uberblock.data(), &magic, sizeof magic);
  const uint64_t version = 5000;
  std::memcpy(uberblock.data() + 8, &version, sizeof version);
  std::string ring;
  for (unsigned i = 0; i < 128; ++i) ring += uberblock;
  for (const uint64_t label : {uint64_t{0}, 256 * KiB, size - 512 * KiB, size - 256 * KiB}) {
    put(path, label + 128 * KiB, ring);
  }
}

constexpr uint64_t kBtrfsCopy = 64 * kMiB;
const std::string kBtrfsMagic = "_BHRfS_M";

/// The copy of a btrfs superblock by which "btrfs rescue" finds the filesystem.
void put_btrfs_copy(const std::string& path) {
  put(path, kBtrfsCopy + 64, kBtrfsMagic);
}

struct WipeTest {
  RealRuntime runtime;
  std::unique_ptr<DeviceOpener> opener = make_system_devices(runtime);
  ScratchDirectory directory;

  std::string signature(const std::string& path) {
    auto device = opener->open(path, {.read_only = true, .exclusive = false});
    REQUIRE(device);
    const auto found = opener->signature(*device.value());
    REQUIRE(found);
    return found.value().value_or("nothing");
  }
  void wipe(const std::string& path) {
    auto device = opener->open(path, {});
    REQUIRE(device);
    REQUIRE(wipe_signatures(opener->engine(), *device.value()));
    REQUIRE(opener->engine().flush(*device.value()));
  }
  /// Zeroes as Device sees them, whatever is cached elsewhere.
  bool reads_zero(const std::string& path, uint64_t offset, uint64_t length) {
    auto device = opener->open(path, {.read_only = true, .exclusive = false});
    REQUIRE(device);
    AlignedBuffer buffer(length);
    REQUIRE(opener->engine().read(*device.value(), offset, buffer.span()));
    return is_zero({reinterpret_cast<const char*>(buffer.data()), length});
  }
};

TEST_CASE_METHOD(WipeTest, "a wiped ZFS member is no longer recognized") {
  const uint64_t size = 128 * kMiB;
  const std::string path = directory.image("zfs", size);
  put_zfs_labels(path, size);
  REQUIRE(signature(path) == "zfs_member");
  wipe(path);
  CHECK(signature(path) == "nothing");
  for (const uint64_t label : {uint64_t{0}, 256 * KiB, size - 512 * KiB, size - 256 * KiB}) {
    INFO(label);
    CHECK(reads_zero(path, label, 256 * KiB));
  }
}

TEST_CASE_METHOD(WipeTest, "the copy of a btrfs superblock at 64 MiB is wiped") {
  const std::string path = directory.image("btrfs", 128 * kMiB);
  put(path, 64 * KiB + 64, kBtrfsMagic);
  put_btrfs_copy(path);
  REQUIRE(signature(path) == "btrfs");
  wipe(path);
  CHECK(signature(path) == "nothing");
  CHECK(is_zero(get(path, 64 * KiB + 64, 8)));
  CHECK(is_zero(get(path, kBtrfsCopy + 64, 8)));
}

TEST_CASE_METHOD(WipeTest, "signatures in the middle of a device are found and wiped") {
  // A member of a Promise RAID has its mark 3087 sectors before the end, before the last MiB.
  const uint64_t size = 128 * kMiB, mark = size - 3087 * 512;
  const std::string path = directory.image("promise", size);
  put(path, mark, "Promise Technology, Inc.");
  REQUIRE(signature(path) == "promise_fasttrack_raid_member");
  wipe(path);
  CHECK(signature(path) == "nothing");
}

TEST_CASE_METHOD(WipeTest, "a signature after the last whole block is wiped") {
  // Our devices end with a whole block of 4 KiB; a RAID of LSI has its mark in the last sector.
  const uint64_t size = 128 * kMiB + 3 * 512;
  const std::string path = directory.image("odd", size);
  put(path, size - 512, "$XIDE$");
  REQUIRE(signature(path) == "lsi_mega_raid_member");
  wipe(path);
  CHECK(signature(path) == "nothing");
}

TEST_CASE_METHOD(WipeTest, "several signatures on one device are all wiped") {
  const uint64_t size = 128 * kMiB;
  const std::string path = directory.image("several", size);
  put_zfs_labels(path, size);
  put(path, 64 * KiB + 64, kBtrfsMagic);
  put(path, 4096 - 10, "SWAPSPACE2");
  put(path, 510, "\x55\xaa");
  wipe(path);
  CHECK(signature(path) == "nothing");
}

TEST_CASE_METHOD(WipeTest, "an empty device and a tiny one can be wiped") {
  const std::string empty = directory.image("empty", 128 * kMiB);
  wipe(empty);
  CHECK(signature(empty) == "nothing");
  const std::string tiny = directory.image("tiny", 8 * KiB);
  put(tiny, 510, "\x55\xaa");
  wipe(tiny);
  CHECK(is_zero(get(tiny, 0, 8 * KiB)));
}

TEST_CASE_METHOD(WipeTest, "data between the known places stays") {
  const std::string path = directory.image("data", 128 * kMiB);
  const std::string data(4096, 'x');
  put(path, 32 * kMiB, data);
  put(path, 126 * kMiB, data);
  wipe(path);
  CHECK(get(path, 32 * kMiB, 4096) == data);
  CHECK(get(path, 126 * kMiB, 4096) == data);
}

TEST_CASE_METHOD(WipeTest, "block devices are wiped as image files are") {
  const uint64_t size = 128 * kMiB;
  const std::string image = directory.image("loop", size);
  put_zfs_labels(image, size);
  put_btrfs_copy(image);
  const auto loop = LoopDevice::attach(image);
  if (!loop) {
    WARN("no loop devices here (needs root): nothing is tested");
    return;
  }
  REQUIRE(signature(loop->path()) == "zfs_member");
  wipe(loop->path());
  CHECK(signature(loop->path()) == "nothing");
  CHECK(is_zero(get(loop->path(), kBtrfsCopy + 64, 8)));
}

TEST_CASE_METHOD(WipeTest, "a device that is open read-only is not wiped") {
  const std::string path = directory.image("ro", 64 * kMiB);
  auto device = opener->open(path, {.read_only = true});
  REQUIRE(device);
  const auto refused = wipe_signatures(opener->engine(), *device.value());
  REQUIRE(!refused);
  CHECK(refused.error() == Errc::device_read_only);
}

}  // namespace
}  // namespace moltfs::alloc
