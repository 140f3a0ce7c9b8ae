// SPDX-License-Identifier: MIT
// Reading /proc/PID/stat.
#include "fs/mount/process_identity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "alloc/base/small_file.h"

namespace moltfs::fs {
namespace {

std::string& end_report_name() {
  static std::string& name = *new std::string;
  return name;
}

constexpr int kStartTime = 22;

}  // namespace

std::string process_stat_field(const std::string& process, int number) {
  const std::string line = read_small_file(fmt::format("/proc/{}/stat", process)).value_or("");
  // Field 2, the name of the command in parentheses, may contain blanks and parentheses.
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string word;
  for (int field = 3; field <= number; ++field) fields >> word;
  return word;
}

std::string process_start_time(int pid) {
  return process_stat_field(std::to_string(pid), kStartTime);
}

std::string process_identity() {
  // /proc may be that of another PID namespace: there "self" is right, and our number is not.
  const std::string start = process_stat_field("self", kStartTime);
  std::string identity = fmt::format("{} {}", getpid(), start.empty() ? "-" : start);
  if (!end_report_name().empty()) identity += " " + end_report_name();
  return identity;
}

void set_end_report_name(const std::string& name) {
  end_report_name() = name;
}

}  // namespace moltfs::fs
