// SPDX-License-Identifier: MIT
// The identity of a process, as /proc has it.
#include "fs/mount/process_identity.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/support/catch.h"

using namespace moltfs::fs;

TEST_CASE("the identity of this process is its number and its start time") {
  const std::string start = process_start_time(getpid());
  CHECK(!start.empty());
  CHECK(start.find_first_not_of("0123456789") == std::string::npos);
  CHECK(process_identity() == std::to_string(getpid()) + " " + start);
  set_end_report_name("0002f");
  CHECK(process_identity() == std::to_string(getpid()) + " " + start + " 0002f");
  set_end_report_name("");
}

TEST_CASE("the name of a process does not disturb the reading") {
  const std::string before = process_start_time(getpid());
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  prctl(PR_SET_NAME, "a) b ( 1 2) x");
  CHECK(process_start_time(getpid()) == before);
  prctl(PR_SET_NAME, name);
}

TEST_CASE("a process that has ended has no start time") {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  CHECK(process_start_time(child).empty());
}
