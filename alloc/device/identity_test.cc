// SPDX-License-Identifier: MIT
// What paths are on this machine: links, descriptors, loop devices.
#include "alloc/device/identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>

#include "alloc/device/path_walk.h"
#include "alloc/device/same_storage.h"
#include "alloc/device/system_devices.h"
#include "test/support/catch.h"
#include "test/support/scratch_device.h"
#include "test/support/values.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;
using test::LoopDevice;
using test::ScratchDirectory;

bool same(const std::string& one, const std::string& other) {
  const auto a = identify(one), b = identify(other);
  INFO(one << " and " << other);
  REQUIRE((a && b));
  return a.value().is_same(b.value());
}

TEST_CASE("a file has many names") {
  const ScratchDirectory directory;
  const std::string base = directory.path();
  const std::string image = directory.image("a", kMiB), other = directory.image("b", kMiB);
  std::filesystem::create_directories(base + "/real/sub");
  REQUIRE(link(image.c_str(), (base + "/hard").c_str()) == 0);
  REQUIRE(symlink("a", (base + "/soft").c_str()) == 0);
  REQUIRE(symlink("real/sub", (base + "/away").c_str()) == 0);
  REQUIRE(link(other.c_str(), (base + "/real/a").c_str()) == 0);
  const Descriptor fd(open(image.c_str(), O_RDONLY | O_CLOEXEC));
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(fd.get());
  CHECK(same(image, base + "/hard"));
  CHECK(same(image, base + "/soft"));
  CHECK(same(image, base + "//./real/../a"));
  CHECK(same(image, by_descriptor));
  CHECK_FALSE(same(image, other));
  // The kernel follows the link first: this is real/a.
  CHECK_FALSE(same(image, base + "/away/../a"));
  CHECK(same(other, base + "/away/../a"));
  CHECK(identify(fd.get(), "x").value().id == identify(image).value().id);
  REQUIRE(unlink(image.c_str()) == 0);
  CHECK(same(by_descriptor, base + "/hard"));
}

TEST_CASE("a path that is not a device has no layers; an absent path is an error that names it") {
  const ScratchDirectory directory;
  CHECK(identify(directory.path()).value().layers.empty());
  CHECK(identify("/dev/null").value().layers.empty());
  const std::string absent = directory.path() + "/absent";
  const auto error = identify(absent);
  REQUIRE(!error);
  CHECK(error.error() == Errc::not_found);
  CHECK(error.error().message().starts_with(absent + ": "));
  CHECK(identify(std::string(5000, 'x')).error() == Errc::name_too_long);
}

TEST_CASE("loop devices are their file, also when it has another name or none") {
  const ScratchDirectory directory;
  const std::string image = directory.image("a", 16 * kMiB);
  const auto one = LoopDevice::attach(image), two = LoopDevice::attach(image);
  REQUIRE_LOOP((one && two));
  const auto above = LoopDevice::attach(one->path());
  REQUIRE_LOOP(above);
  CHECK(same(one->path(), image));
  CHECK(same(one->path(), two->path()));
  CHECK(same(above->path(), two->path()));
  CHECK(same(above->path(), image));
  struct stat status;
  REQUIRE(stat(one->path().c_str(), &status) == 0);
  const std::string by_number = "/dev/block/" + std::to_string(major(status.st_rdev)) + ":" +
                                std::to_string(minor(status.st_rdev));
  if (access(by_number.c_str(), F_OK) == 0) CHECK(same(by_number, two->path()));
  const std::string moved = directory.path() + "/moved";
  REQUIRE(rename(image.c_str(), moved.c_str()) == 0);
  CHECK(same(one->path(), moved));
  CHECK_FALSE(same(one->path(), directory.image("a", kMiB)));
  const Descriptor fd(open(moved.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(unlink(moved.c_str()) == 0);
  CHECK(same(one->path(), "/proc/self/fd/" + std::to_string(fd.get())));
  CHECK(same(one->path(), two->path()));
}

TEST_CASE("one storage can be claimed once only, under any name") {
  RealRuntime runtime;
  const auto opener = make_system_devices(runtime);
  const ScratchDirectory directory;
  const std::string image = directory.image("a", 16 * kMiB), hard = directory.path() + "/hard";
  REQUIRE(link(image.c_str(), hard.c_str()) == 0);
  std::vector<std::string> names = {image, hard};
  const auto one = LoopDevice::attach(image), two = LoopDevice::attach(hard);
  const auto above = one && two ? LoopDevice::attach(two->path()) : std::nullopt;
  if (above) names.insert(names.end(), {one->path(), two->path(), above->path()});
  for (const std::string& first : names) {
    const auto holds = opener->open(first, {});
    INFO(first);
    REQUIRE(holds);
    for (const std::string& second : names) {
      INFO(second);
      const auto refused = opener->open(second, {});
      REQUIRE(!refused);
      CHECK(refused.error() == Errc::device_in_use);
      CHECK(refused.error().message().starts_with(second + ": is in use"));
      CHECK(opener->open(second, {.read_only = true, .exclusive = false}));
      CHECK(is_same_storage(*holds.value(), second));
    }
    CHECK_FALSE(is_same_storage(*holds.value(), directory.path()));
    CHECK(identity_of(*holds.value()) != nullptr);
  }
  CHECK(opener->open(image, {}));
}

TEST_CASE("a path is walked as the kernel walks it") {
  const ScratchDirectory directory;
  const std::string base = directory.path();
  const std::string image = directory.image("a", kMiB);
  std::filesystem::create_directories(base + "/real/sub");
  REQUIRE(symlink("real/sub", (base + "/away").c_str()) == 0);
  REQUIRE(symlink((base + "/away/..").c_str(), (base + "/up").c_str()) == 0);
  REQUIRE(symlink("self", (base + "/self").c_str()) == 0);
  REQUIRE(symlink("../../a", (base + "/real/sub/back").c_str()) == 0);
  const Descriptor fd(open(image.c_str(), O_RDONLY | O_CLOEXEC));
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(fd.get());
  const std::vector<std::string> paths = {image,
                                          base + "/away/../../a",
                                          base + "/up/../a",
                                          base + "/up/sub/back",
                                          base + "/away/",
                                          base + "/away/.",
                                          "/",
                                          "///",
                                          ".",
                                          "..",
                                          base + "/a/",
                                          base + "/a/.",
                                          base + "/a/..",
                                          base + "/absent",
                                          base + "/self",
                                          "",
                                          std::string(5000, 'x'),
                                          "/" + std::string(300, 'x'),
                                          by_descriptor,
                                          by_descriptor + "/x",
                                          "/proc/self/root" + image,
                                          "/proc/self/cwd/.",
                                          "/dev/stdin"};
  for (const std::string& path : paths) {
    INFO(path);
    const Descriptor kernels(open(path.c_str(), O_PATH | O_CLOEXEC));
    const int err = errno;
    PathWalk walk(~dev_t{0});
    const Descriptor ours = walk.open(path);
    CHECK_FALSE(walk.met_served());
    REQUIRE(static_cast<bool>(ours) == static_cast<bool>(kernels));
    if (!ours) {
      CHECK(walk.error() == err);
      continue;
    }
    struct stat a, b;
    REQUIRE(fstat(ours.get(), &a) == 0);
    REQUIRE(fstat(kernels.get(), &b) == 0);
    CHECK((a.st_dev == b.st_dev && a.st_ino == b.st_ino));
  }
}

TEST_CASE("a walk looks up nothing on the filesystem that it must not enter") {
  struct stat of_proc, of_root;
  REQUIRE(stat("/proc", &of_proc) == 0);
  REQUIRE(stat("/", &of_root) == 0);
  REQUIRE(of_proc.st_dev != of_root.st_dev);
  const ScratchDirectory directory;
  REQUIRE(symlink("/proc/absent/x", (directory.path() + "/link").c_str()) == 0);
  for (const std::string& path :
       {std::string("/proc"), std::string("/proc/absent"), std::string("/proc/self/status"),
        directory.path() + "/link", std::string("/proc/../proc/self")}) {
    INFO(path);
    PathWalk walk(of_proc.st_dev);
    CHECK_FALSE(walk.open(path));
    CHECK(walk.met_served());
  }
  PathWalk walk(of_proc.st_dev);
  CHECK(walk.open("/proc/.."));  // through its root, but no name is looked up there
  CHECK_FALSE(walk.met_served());
}

}  // namespace
}  // namespace moltfs::alloc
