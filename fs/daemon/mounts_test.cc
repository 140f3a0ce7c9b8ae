// SPDX-License-Identifier: MIT
// Which mounts are moltfs, and the handle on a process.
#include "fs/daemon/mounts.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/daemon/client.h"
#include "fs/mount/process_identity.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::daemon;

TEST_CASE("a mount of another filesystem is refused, and the message names it") {
  const auto root = find_moltfs("/proc");
  REQUIRE(!root);
  CHECK(root.error().message().find("proc is mounted on /proc, not moltfs") != std::string::npos);
  const auto inside = find_moltfs("/proc/self");
  REQUIRE(!inside);
  CHECK(inside.error().message().find("no moltfs is mounted on /proc/self") != std::string::npos);
  CHECK(!find_moltfs("/nowhere/at/all"));
}

TEST_CASE("a process is identified by number and start time, and its end is noticed") {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const std::string start = process_start_time(child);
  const std::string number = std::to_string(child);
  CHECK_FALSE(ProcessHandle::open(number + " " + start + "1").has_value());
  CHECK_FALSE(ProcessHandle::open("").has_value());
  CHECK_FALSE(ProcessHandle::open("-1 5").has_value());
  const auto handle = ProcessHandle::open(number + " " + start);
  REQUIRE(handle.has_value());
  CHECK_FALSE(handle->wait(10));
  kill(child, SIGKILL);
  CHECK(handle->wait(5000));
  waitpid(child, nullptr, 0);
  CHECK_FALSE(ProcessHandle::open(number + " " + start).has_value());
}
