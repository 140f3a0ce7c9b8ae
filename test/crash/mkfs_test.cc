// SPDX-License-Identifier: MIT
// The power is cut at every point of mkfs. What is left must be refused with a sentence, or be the
// whole new volume, or be the whole older one, unchanged.
#include <algorithm>
#include <array>
#include <unordered_set>

#include "alloc/disk/format.h"
#include "test/crash/operations.h"
#include "test/crash/recorder.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::crash;

namespace {

using Names = std::vector<std::string>;

Result<void> make_over(World& world, const Names& disks) {
  fs::MkfsOptions options;
  options.force = true;
  return fs::make_filesystem(world.runtime, world.devices, disks, options);
}

enum class Left { refused, fresh, older };

/// Mounts `offers` and checks what they are.
Left inspect(World& world, const Names& offers, const DirState& older) {
  auto opened = fs::Mount::open(world.runtime, world.devices, offers, mount_options());
  if (!opened) {
    const std::string sentence = opened.error().message();
    const bool clear =
        opened.error() == Errc::missing_device ||
        std::any_of(offers.begin(), offers.end(), [&](const std::string& disk) {
          return sentence.find(disk + ":") != sentence.npos || sentence.find(disk + " ") == 0;
        });
    if (!clear) fail("not a clear message: {}", sentence);
    return Left::refused;
  }
  const DirState found = picture(opened.value()->filesystem());
  require_usable(*opened.value());  // its commit repairs a lost copy of a superblock
  must(opened.value()->close(), "close");
  opened.value().reset();
  for (const auto& disk : offers) require_clean(world, disk);
  std::string why;
  if (sim::same(older, found, &why)) return older.names.empty() ? Left::fresh : Left::older;
  if (sim::same({}, found, nullptr)) return Left::fresh;
  fail("neither the older volume nor the new one: {}", why);
}

/// Cuts mkfs over `disks` at every point, then offers `offers`. Counts the outcomes.
std::array<size_t, 3> cut_mkfs(const Images& start, const Names& disks, const Names& offers,
                               const DirState& older) {
  std::unique_ptr<Recorder> log;
  REQUIRE(in_world(start, 3, [&](World& world) {
            log = std::make_unique<Recorder>(world);
            log->begin({});
            must(make_over(world, disks), "mkfs");
            log->stop(world);
          }) == "");
  std::array<size_t, 3> counts{};
  std::unordered_set<uint64_t> known;
  std::string failure;
  log->each_cut(start, 8, [&](const Recorder::Cut& cut, const Images& images) {
    if (!failure.empty() || !known.insert(cut.hash).second) return;
    const std::string wrong = in_world(images, cut.hash, [&](World& world) {
      const Left left = inspect(world, offers, older);
      ++counts[static_cast<size_t>(left)];
      if (cut.hash % 4 != 0 || offers != disks) return;
      must(make_over(world, disks), "mkfs again");
      if (inspect(world, offers, older) != Left::fresh) fail("mkfs again: not the new volume");
    });
    if (wrong.empty()) return;
    failure = fmt::format("event {} of {}, {}: {}", cut.event, log->event_count(), cut.how, wrong);
  });
  CHECK(failure == "");
  return counts;
}

DirState content_of(const Images& images, const Names& disks) {
  DirState state;
  REQUIRE(in_world(images, 1, [&](World& world) {
            auto mount = must(fs::Mount::open(world.runtime, world.devices, disks, mount_options()),
                              "mount");
            state = picture(mount->filesystem());
            must(mount->close(), "close");
          }) == "");
  return state;
}

/// A volume after a power cut: the superblock's second copy is one commit behind, and what that
/// commit freed has been overwritten.
Images crashed() {
  Images images;
  REQUIRE(in_world(prepared(), 1, [&](World& world) {
            auto mount = open(world, "a");
            must(operation("fewer chunks").act(mount->filesystem()), "unlink");
            must(mount->filesystem().sync(), "sync");
            must(operation("overwrite").act(mount->filesystem()), "overwrite");
            must(mount->filesystem().sync(), "sync");
            const Image behind = image_of(world, "a", true);
            must(operation("new chunks").act(mount->filesystem()), "write");
            Image image = image_of(world, "a");
            AlignedBuffer copy(alloc::kSuperblockMaxBytes);
            behind.bytes.read(alloc::kSuperblockOffsets[1], copy.span());
            image.bytes.write(alloc::kSuperblockOffsets[1], copy.span());
            images = {std::move(image)};
            mount->abandon();
          }) == "");
  return images;
}

/// A volume on two disks.
Images pair() {
  Images images;
  REQUIRE(in_world({{"a", {}}, {"b", {}}}, 1, [&](World& world) {
            must(fs::make_filesystem(world.runtime, world.devices, {"a", "b"}, {}), "mkfs");
            auto mount = open(world, "a");
            auto made = must(mount->filesystem().make(fs::kRootInode, "f", 0100644, 0, {}), "make");
            mount->filesystem().forget(made.ino, 1);
            must(mount->close(), "close");
            mount.reset();
            images = {image_of(world, "a"), image_of(world, "b")};
          }) == "");
  return images;
}

}  // namespace

TEST_CASE("mkfs on an empty disk is cut") {
  const auto counts = cut_mkfs({{"a", {}}}, {"a"}, {"a"}, {});
  CHECK(counts[0] > 0);
  CHECK(counts[1] > 0);
}

TEST_CASE("mkfs over an older volume is cut") {
  const auto counts = cut_mkfs(prepared(), {"a"}, {"a"}, content_of(prepared(), {"a"}));
  CHECK(counts[0] > 0);
  CHECK(counts[1] > 0);
  CHECK(counts[2] > 0);
}

TEST_CASE("mkfs over a volume that was not unmounted is cut") {
  const Images start = crashed();
  const auto counts = cut_mkfs(start, {"a"}, {"a"}, content_of(start, {"a"}));
  CHECK(counts[0] > 0);
  CHECK(counts[1] > 0);
  CHECK(counts[2] > 0);
}

TEST_CASE("mkfs over both disks of an older volume is cut") {
  const Images start = pair();
  const auto counts = cut_mkfs(start, {"a", "b"}, {"a", "b"}, content_of(start, {"a"}));
  CHECK(counts[0] > 0);
  CHECK(counts[1] > 0);
}

TEST_CASE("mkfs over one disk of an older volume is cut") {
  const Images start = pair();
  const auto counts = cut_mkfs(start, {"a"}, {"b"}, content_of(start, {"a"}));
  CHECK(counts[0] > 0);
  CHECK(counts[1] == 0);
  CHECK(counts[2] > 0);
}
