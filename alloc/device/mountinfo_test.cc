// SPDX-License-Identifier: MIT
#include "alloc/device/mountinfo.h"

#include <algorithm>

#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

TEST_CASE("lines of mountinfo; those that do not parse are left out") {
  const auto entries = parse_mountinfo(
      "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.moltfs /img\\011x "
      "rw,user_id=0\n"
      "garbage\n"
      "\n"
      "37 35 0:33 / /mnt/c ro - ext4 /dev/sda ro\n"
      "38 35 0:34 / /mnt/d rw -\n"
      "39 35 0:35 / /mnt/- rw - tmpfs - rw");
  REQUIRE(entries.size() == 3);
  CHECK(entries[0].device_number == "98:0");
  CHECK(entries[0].mountpoint == "/mnt/a b");
  CHECK(entries[0].type == "fuse.moltfs");
  CHECK(entries[0].source == "/img\tx");
  CHECK(entries[0].options == "rw,noatime,rw,user_id=0");
  CHECK(entries[1].mountpoint == "/mnt/c");
  CHECK(entries[2].mountpoint == "/mnt/-");
  CHECK(entries[2].source == "-");
}

TEST_CASE("an empty source does not move the other fields") {
  const auto entries = parse_mountinfo("40 35 0:36 / /mnt/e rw - tmpfs  rw,size=1k\n");
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].type == "tmpfs");
  CHECK(entries[0].source.empty());
  CHECK(entries[0].options == "rw,rw,size=1k");
}

TEST_CASE("escapes of paths in mountinfo") {
  CHECK(unescape_mount_path("") == "");
  CHECK(unescape_mount_path("a\\040b\\011c\\012d\\134") == "a b\tc\nd\\");
  CHECK(unescape_mount_path("\\04") == "\\04");
  CHECK(unescape_mount_path("\\048x\\") == "\\048x\\");
  CHECK(unescape_mount_path("\\\\040") == "\\ ");
}

TEST_CASE("this process has a root mount") {
  const auto entries = read_mountinfo();
  CHECK(std::any_of(entries.begin(), entries.end(),
                    [](const auto& entry) { return entry.mountpoint == "/"; }));
}

}  // namespace
}  // namespace moltfs::alloc
