// SPDX-License-Identifier: MIT
// Reading /proc/PID/stat.
#include "fs/mount/process_identity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace moltfs::fs {

std::string process_start_time(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return {};
  // Field 2, the name of the command in parentheses, may contain blanks and parentheses.
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string word;
  for (int field = 3; field <= 22; ++field) fields >> word;
  return word;
}

std::string process_identity() {
  return fmt::format("{} {}", getpid(), process_start_time(getpid()));
}

}  // namespace moltfs::fs
