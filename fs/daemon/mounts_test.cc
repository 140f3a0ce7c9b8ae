// SPDX-License-Identifier: MIT
// Lines of mountinfo, and the handle on a process.
#include "fs/daemon/mounts.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "fs/daemon/client.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::daemon;

TEST_CASE("mountinfo lines") {
  const auto entries = parse_mountinfo(
      "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 master:2 - fuse.moltfs /img\\011x "
      "rw,user_id=0\n"
      "garbage\n"
      "37 35 0:33 / /mnt/c ro - ext4 /dev/sda ro\n"
      "38 35 0:34 / /mnt/d rw -\n");
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].mountpoint == "/mnt/a b");
  CHECK(entries[0].type == "fuse.moltfs");
  CHECK(entries[0].source == "/img\tx");
  CHECK(entries[0].device_number == "98:0");
  CHECK(entries[0].options == "rw,noatime,rw,user_id=0");
  CHECK(entries[1].mountpoint == "/mnt/c");
}

TEST_CASE("what is not a moltfs is refused with what it is") {
  const auto root = find_moltfs("/proc");
  REQUIRE(!root);
  CHECK(root.error().message().find("is proc, not moltfs") != std::string::npos);
  const auto inside = find_moltfs("/proc/self");
  REQUIRE(!inside);
  CHECK(inside.error().message().find("no moltfs is mounted on /proc/self") != std::string::npos);
  CHECK(!find_moltfs("/nowhere/at/all"));
}

TEST_CASE("a process is held by number and start time, and its end is seen") {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  std::ifstream file("/proc/" + std::to_string(child) + "/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string start;
  for (int i = 3; i <= 22; ++i) fields >> start;
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
