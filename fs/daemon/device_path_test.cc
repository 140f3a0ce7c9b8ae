// SPDX-License-Identifier: MIT
// Paths of devices, made absolute.
#include "fs/daemon/device_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "alloc/base/descriptor.h"
#include "test/support/catch.h"
#include "test/support/scratch_device.h"

namespace moltfs::fs::daemon {
namespace {

struct Fixture {
  test::ScratchDirectory scratch;
  std::string base = std::filesystem::canonical(scratch.path()).string();
  std::filesystem::path before = std::filesystem::current_path();

  Fixture() {
    std::filesystem::create_directories(base + "/real/sub");
    REQUIRE(symlink("real/sub", (base + "/link").c_str()) == 0);
    scratch.image("image", 4096);
    REQUIRE(symlink("image", (base + "/by-id").c_str()) == 0);
    std::filesystem::current_path(base);
  }
  ~Fixture() { std::filesystem::current_path(before); }
};

TEST_CASE_METHOD(Fixture, "a path becomes absolute and keeps its name") {
  CHECK(absolute_path("image") == base + "/image");
  CHECK(absolute_path("././/image") == base + "/image");
  CHECK(absolute_path("by-id") == base + "/by-id");
  CHECK(absolute_path("absent/x") == base + "/absent/x");
  CHECK(absolute_path("image/") == base + "/image/");
  CHECK(absolute_path("image/.") == base + "/image/.");
  CHECK(absolute_path("//dev///sda") == "/dev/sda");
  CHECK(absolute_path("/") == "/");
  CHECK(absolute_path("") == "");
  CHECK(absolute_path("...") == base + "/...");
}

TEST_CASE_METHOD(Fixture, "the parent of a link is the parent of what it leads to") {
  CHECK(absolute_path("link/../image") == base + "/real/image");
  CHECK(absolute_path("link/../../by-id") == base + "/by-id");
  CHECK(absolute_path("link/..") == base + "/real");
  CHECK(absolute_path("/../dev/null") == "/dev/null");
  // There is nothing to resolve: the kernel will say so.
  CHECK(absolute_path("absent/../image") == base + "/absent/../image");
}

TEST_CASE_METHOD(Fixture, "a descriptor is named by its file, as another process has others") {
  const Descriptor fd(open("image", O_RDONLY | O_CLOEXEC));
  const std::string number = std::to_string(fd.get());
  CHECK(absolute_path("/proc/self/fd/" + number) == base + "/image");
  CHECK(absolute_path("/dev/fd/" + number) == base + "/image");
  REQUIRE(symlink(("/dev/fd/" + number).c_str(), (base + "/deep").c_str()) == 0);
  CHECK(absolute_path("deep") == base + "/image");
  REQUIRE(unlink("image") == 0);
  CHECK(absolute_path("/proc/self/fd/" + number) == base + "/image (deleted)");
  const std::string process = "/proc/" + std::to_string(getpid());
  CHECK(absolute_path("/proc/self/fd/999") == process + "/fd/999");
  REQUIRE(symlink("/dev/fd/999", (base + "/dangling").c_str()) == 0);
  CHECK(absolute_path("dangling") == process + "/fd/999");
}

TEST_CASE_METHOD(Fixture, "tags are no paths") {
  CHECK(absolute_path("LABEL=home") == "LABEL=home");
  CHECK(absolute_path("UUID=x/../y") == "UUID=x/../y");
  CHECK(absolute_path("LABELS") == base + "/LABELS");
}

}  // namespace
}  // namespace moltfs::fs::daemon
