// SPDX-License-Identifier: MIT
// Reading /proc/PID/status. Whole processes are looked at in broker_server_test.cc.
#include "fs/daemon/caller_rights.h"

#include <unistd.h>

#include "test/support/catch.h"

using namespace moltfs::fs;
using namespace moltfs::fs::daemon;

TEST_CASE("the fields of /proc/PID/status are found") {
  const auto fields = parse_status(
      "Name:\tbad\\nUid:\t0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nNSpid:\t11\t1\n"
      "CapEff:\t000001ffffffffff\n");
  CHECK(fields.uids == std::vector<uint64_t>{1, 2, 3, 4});
  CHECK(fields.gids == std::vector<uint64_t>{5, 6, 7, 8});
  CHECK(fields.groups == std::vector<uint64_t>{9, 10});
  CHECK(fields.namespace_pids == std::vector<uint64_t>{11, 1});
  CHECK(fields.has_capabilities);
  CHECK(fields.capabilities == 0x1ffffffffff);
}

TEST_CASE("what is missing or is not a number is not set") {
  CHECK(parse_status("").uids.empty());
  CHECK_FALSE(parse_status("CapEff:\n").has_capabilities);
  CHECK_FALSE(parse_status("CapEff:\tzz\n").has_capabilities);
  CHECK(parse_status("Uid:\t1\tx\t3\n").uids == std::vector<uint64_t>{1});
}

TEST_CASE("this process has the rights that it has") {
  const auto rights = rights_of({geteuid(), getpid()});
  REQUIRE(rights);
  CHECK(rights.value().uid == geteuid());
  CHECK(rights.value().gid == getegid());
  CHECK(rights.value().in_our_user_namespace);
  CHECK_FALSE(rights.value().above_our_user_namespace);
}
