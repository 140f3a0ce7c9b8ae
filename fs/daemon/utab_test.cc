// SPDX-License-Identifier: MIT
// Lines of /run/mount/utab, and which options go into them.
#include "fs/daemon/utab.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::daemon;

TEST_CASE("a line of utab is found by its mount point") {
  constexpr std::string_view kLines =
      "SRC=/dev/loop0 TARGET=/mnt/a\\040b ROOT=/ OPTS=uhelper=moltfs\n"
      "SRC=/mnt/d TARGET=/mnt/c ROOT=/ OPTS=_netdev\n";
  CHECK(utab_names(kLines, "/mnt/a b"));
  CHECK(utab_names(kLines, "/mnt/c"));
  CHECK(!utab_names(kLines, "/mnt/a"));
  CHECK(!utab_names(kLines, "/mnt/d"));
  CHECK(!utab_names("", "/mnt/c"));
}

TEST_CASE("options for the readers of utab are kept") {
  MountRequest request;
  REQUIRE(parse_mount_options("ro,_netdev,x-gvfs-show,X-a=b,noauto,user", request));
  CHECK(request.utab_words == std::vector<std::string>{"_netdev", "x-gvfs-show", "X-a=b"});
}
