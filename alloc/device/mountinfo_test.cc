// SPDX-License-Identifier: MIT
#include "alloc/device/mountinfo.h"

#include <sys/sysmacros.h>

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
  CHECK(entries[0].id == 36);
  CHECK(entries[0].device_number == "98:0");
  CHECK(entries[0].root == "/");
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

TEST_CASE("the mount of a path") {
  const auto mounts = parse_mountinfo(
      "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
      "2 1 0:2 / /mnt rw - ext4 /dev/sdb rw\n"
      "3 2 0:3 / /mnt rw - tmpfs none rw\n"
      "4 3 0:4 /sub /mnt/a\\040b rw - ext4 /dev/sdc rw\n");
  const auto id_of = [&](std::string_view path) { return mount_of_path(mounts, path)->id; };
  CHECK(id_of("/") == 1);
  CHECK(id_of("/mnt2/x") == 1);
  CHECK(id_of("/mnt") == 3);
  CHECK(id_of("/mnt/x") == 3);
  CHECK(id_of("/mnt/a b/x") == 4);
  CHECK(id_of("/mnt/a") == 3);
  CHECK(mounts[3].root == "/sub");
  CHECK(mount_of_path({}, "/") == nullptr);
  CHECK(mount_of_id(mounts, 3) == &mounts[2]);
  CHECK(mount_of_id(mounts, 5) == nullptr);
}

TEST_CASE("device numbers") {
  CHECK(device_number_of("7:3") == makedev(7, 3));
  CHECK(device_number_of("0:45") == makedev(0, 45));
  for (const char* text : {"", ":", "7", "7:", ":3", "7:3:1", "7:x", "a:3", " 7:3", "7:3 "}) {
    INFO(text);
    CHECK(device_number_of(text) == 0);
  }
}

TEST_CASE("this process has a root mount") {
  const auto entries = read_mountinfo();
  CHECK(std::any_of(entries.begin(), entries.end(),
                    [](const auto& entry) { return entry.mountpoint == "/"; }));
}

}  // namespace
}  // namespace moltfs::alloc
