// SPDX-License-Identifier: MIT
// Remounting: flags of the kernel, the policy of the daemon, and a commit when it becomes
// read-only.
#include "fs/daemon/remount.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/mount.h>

#include <cstring>
#include <sstream>
#include <string>

#include "fs/daemon/client.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/write_back.h"

namespace moltfs::fs::daemon {
namespace {

struct KernelFlag {
  std::string_view set, clear;
  unsigned long flag;
};
constexpr KernelFlag kKernelFlags[] = {
    {"ro", "rw", MS_RDONLY},       {"nosuid", "suid", MS_NOSUID},     {"nodev", "dev", MS_NODEV},
    {"noexec", "exec", MS_NOEXEC}, {"sync", "async", MS_SYNCHRONOUS}, {"dirsync", "", MS_DIRSYNC}};

unsigned long atime_flags(const Policy& policy) {
  using Atime = Policy::Atime;
  const unsigned long rule = policy.atime == Atime::never    ? MS_NOATIME
                             : policy.atime == Atime::strict ? MS_STRICTATIME
                                                             : MS_RELATIME;
  return policy.directory_atime ? rule : rule | MS_NODIRATIME;
}

bool has_word(std::string_view list, std::string_view word) {
  return fmt::format(",{},", list).find(fmt::format(",{},", word)) != std::string::npos;
}

/// The policy of the daemon now.
Result<Policy> policy_of(const Client& client) {
  TRY(const auto words, client.get("options"));
  Policy policy;
  std::istringstream list(words);
  for (std::string word; std::getline(list, word, ',');) {
    if (word.ends_with('\n')) word.pop_back();
    (void)take_policy_word(word, policy);
  }
  return policy;
}

}  // namespace

unsigned long remount_flags(const MountRequest& request, std::string_view before) {
  unsigned long flags = MS_REMOUNT;
  for (const KernelFlag& known : kKernelFlags) {
    bool is_set = has_word(before, known.set);
    for (const auto* words : {&request.kernel_options, &request.policy_words}) {
      for (const std::string& word : *words) {
        if (word == known.set || word == known.clear) is_set = word == known.set;
      }
    }
    if (is_set) flags |= known.flag;
  }
  return flags | atime_flags(request.mount.policy);
}

Result<void> remount(const MountRequest& wanted) {
  MountRequest request = wanted;
  TRY(const auto entry, find_moltfs(request.mountpoint));
  TRY(const auto client, Client::open(request.mountpoint));
  TRY(request.mount.policy, policy_of(client));
  if (!request.devices.empty()) {  // not named: cleared
    request.mount.policy.sync_all = false;
    request.mount.policy.directory_atime = true;
  }
  for (const std::string& word : request.policy_words) {
    (void)take_policy_word(word, request.mount.policy);
  }
  TRY(const auto usage, client.get_json("usage"));
  const unsigned long flags = remount_flags(request, request.devices.empty() ? entry.options : "");
  const bool is_writable = (flags & MS_RDONLY) == 0;
  if (is_writable && usage.flag("read_only")) {
    return Error(Errc::read_only,
                 fmt::format("{} is read-only (see moltfs usage); for rw unmount it and mount it "
                             "again",
                             entry.mountpoint));
  }
  if (::mount(entry.source.c_str(), entry.mountpoint.c_str(), nullptr, flags, nullptr) != 0) {
    return Error(errc_from_errno(errno),
                 fmt::format("cannot remount {}: {}", entry.mountpoint, strerror(errno)));
  }
  // On a read-only mount the policy has no effect, and no xattr can be set.
  if (!is_writable) return commit_received(entry.mountpoint);
  // to_words() names only what is on, so the words that turn options off come first.
  return client.set("options", "diratime,async," + to_words(request.mount.policy));
}

}  // namespace moltfs::fs::daemon
