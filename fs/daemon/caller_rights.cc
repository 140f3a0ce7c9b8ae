// SPDX-License-Identifier: MIT
// Reading /proc/PID/status, /proc/PID/stat and /proc/PID/ns/user.
#include "fs/daemon/caller_rights.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>

#include "alloc/base/descriptor.h"
#include "alloc/base/small_file.h"
#include "fs/mount/process_identity.h"

namespace moltfs::fs::daemon {
namespace {

constexpr uint64_t kKernelThread = 0x00200000;  // PF_KTHREAD

Error unknown(const CallingProcess& caller, std::string_view why) {
  return Error(Errc::not_permitted,
               fmt::format("the rights of process {} are not known: {}", caller.pid, why));
}

/// Numbers separated by blanks, up to the first other word.
std::vector<uint64_t> numbers_in(const std::string& text, int base) {
  std::vector<uint64_t> numbers;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    uint64_t number = 0;
    const char* const end = word.data() + word.size();
    const auto [parsed, error] = std::from_chars(word.data(), end, number, base);
    if (error != std::errc() || parsed != end) break;
    numbers.push_back(number);
  }
  return numbers;
}

/// /proc counts processes as this one does.
bool proc_is_ours() {
  const auto text = read_small_file("/proc/self/status");
  const auto own = static_cast<uint64_t>(getpid());
  return text && parse_status(*text).namespace_pids == std::vector<uint64_t>{own};
}

/// Also true if that cannot be found out.
bool is_kernel_thread(int pid) {
  const auto flags = numbers_in(process_stat_field(std::to_string(pid), kStatFlags), 10);
  return flags.empty() || (flags[0] & kKernelThread) != 0;
}

bool same_file(int a, int b) {
  struct stat x {
  }, y{};
  return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/// True if the user namespace `theirs` is above that of this process.
bool is_above_ours(int theirs) {
  int at = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
  while (at >= 0) {
    const int parent = ioctl(at, NS_GET_PARENT);
    close(at);
    at = parent;
    if (at >= 0 && same_file(at, theirs)) {
      close(at);
      return true;
    }
  }
  return false;
}

}  // namespace

bool CallerRights::is_admin() const {
  const bool has_it = (capabilities & (uint64_t{1} << CAP_SYS_ADMIN)) != 0;
  return has_it && (in_our_user_namespace || above_our_user_namespace);
}

StatusFields parse_status(const std::string& text) {
  StatusFields fields;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, colon), value = line.substr(colon + 1);
    if (key == "Uid") fields.uids = numbers_in(value, 10);
    if (key == "Gid") fields.gids = numbers_in(value, 10);
    if (key == "Groups") fields.groups = numbers_in(value, 10);
    if (key == "NSpid") fields.namespace_pids = numbers_in(value, 10);
    if (key == "CapEff") {
      const auto bits = numbers_in(value, 16);
      fields.has_capabilities = bits.size() == 1;
      fields.capabilities = fields.has_capabilities ? bits[0] : 0;
    }
  }
  return fields;
}

Result<CallerRights> rights_of(const CallingProcess& caller) {
  if (caller.pid <= 0) {
    return Error(Errc::not_permitted,
                 "the rights of the caller are not known: it is in another PID namespace than the "
                 "daemon");
  }
  if (!proc_is_ours()) {
    return unknown(caller, "/proc is missing, or is that of another PID namespace");
  }
  const std::string directory = fmt::format("/proc/{}", caller.pid);
  const auto text = read_small_file(directory + "/status");
  if (!text) return unknown(caller, "the daemon does not see it in /proc");
  const StatusFields fields = parse_status(*text);
  constexpr size_t kFilesystem = 3;  // real, effective, saved, filesystem
  if (fields.uids.size() != 4 || fields.gids.size() != 4 || !fields.has_capabilities) {
    return unknown(caller, "its /proc/PID/status lacks them");
  }
  if (is_kernel_thread(caller.pid)) return unknown(caller, "it is a kernel thread");
  if (fields.uids[kFilesystem] != caller.uid) {
    return unknown(caller, "the request was not made with its own rights");
  }
  const Descriptor theirs(open((directory + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  const Descriptor ours(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
  if (theirs.get() < 0 || ours.get() < 0) {
    return unknown(caller, fmt::format("its user namespace: {}", text_of_errno(errno)));
  }
  CallerRights rights;
  rights.uid = static_cast<uid_t>(fields.uids[kFilesystem]);
  rights.gid = static_cast<gid_t>(fields.gids[kFilesystem]);
  for (const uint64_t group : fields.groups) rights.groups.push_back(static_cast<gid_t>(group));
  rights.capabilities = fields.capabilities;
  rights.in_our_user_namespace = same_file(theirs.get(), ours.get());
  rights.above_our_user_namespace = !rights.in_our_user_namespace && is_above_ours(theirs.get());
  return rights;
}

}  // namespace moltfs::fs::daemon
