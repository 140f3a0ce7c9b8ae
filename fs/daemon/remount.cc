// SPDX-License-Identifier: MIT
// Remounting: flags of the kernel, and a commit before a mount is read-only.
#include "fs/daemon/remount.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>

#include "fs/daemon/client.h"
#include "fs/daemon/mounts.h"

namespace moltfs::fs::daemon {
namespace {

using Atime = Filesystem::Options::Atime;

struct KernelFlag {
  std::string_view set, clear;
  unsigned long flag;
};
constexpr KernelFlag kKernelFlags[] = {
    {"ro", "rw", MS_RDONLY},       {"nosuid", "suid", MS_NOSUID},     {"nodev", "dev", MS_NODEV},
    {"noexec", "exec", MS_NOEXEC}, {"sync", "async", MS_SYNCHRONOUS}, {"dirsync", "", MS_DIRSYNC}};

struct AtimeRule {
  Atime rule;
  std::string_view word;
  unsigned long flag;
};
constexpr AtimeRule kAtimeRules[] = {{Atime::relative, "relatime", MS_RELATIME},
                                     {Atime::never, "noatime", MS_NOATIME},
                                     {Atime::strict, "strictatime", MS_STRICTATIME}};

const AtimeRule& rule_of(const MountRequest& request) {
  for (const AtimeRule& known : kAtimeRules) {
    if (known.rule == request.mount.atime) return known;
  }
  return kAtimeRules[0];
}

bool has_word(std::string_view list, std::string_view word) {
  return fmt::format(",{},", list).find(fmt::format(",{},", word)) != std::string::npos;
}

/// The kernel's table names no rule where it is strictatime.
const AtimeRule& rule_shown_by(std::string_view options) {
  for (const AtimeRule& known : kAtimeRules) {
    if (has_word(options, known.word)) return known;
  }
  return kAtimeRules[2];
}

/// All that was written is durable; also on a mount that has just become read-only.
Result<void> commit(const std::string& mountpoint) {
  const int fd = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool done = fd >= 0 && fsync(fd) == 0;
  const int err = errno;
  if (fd >= 0) close(fd);
  if (done) return ok();
  return Error(errc_from_errno(err), fmt::format("{}: {}", mountpoint, strerror(err)));
}

}  // namespace

unsigned long remount_flags(const MountRequest& request, std::string_view before) {
  unsigned long flags = MS_REMOUNT;
  for (const KernelFlag& known : kKernelFlags) {
    bool is_set = has_word(before, known.set);
    for (const std::string& word : request.kernel_options) {
      if (word == known.set || word == known.clear) is_set = word == known.set;
    }
    if (is_set) flags |= known.flag;
  }
  return request.names_atime ? flags | rule_of(request).flag : flags;
}

Result<void> remount(const MountRequest& request) {
  TRY(const auto entry, find_moltfs(request.mountpoint));
  TRY(const auto client, Client::open(request.mountpoint));
  TRY(const auto usage, client.get("usage"));
  const unsigned long flags = remount_flags(request, request.devices.empty() ? entry.options : "");
  const bool is_writable = (flags & MS_RDONLY) == 0;
  if (is_writable && usage.find("\"read_only\":true") != std::string::npos) {
    return Error(Errc::read_only,
                 fmt::format("{} is read-only (see moltfs usage); for rw unmount it and mount it "
                             "again",
                             entry.mountpoint));
  }
  if (request.names_atime && request.mount.atime != rule_shown_by(entry.options).rule) {
    return Error(
        Errc::not_supported,
        fmt::format("{} keeps {} as long as it is mounted; for {} unmount it and mount it "
                    "again",
                    entry.mountpoint, rule_shown_by(entry.options).word, rule_of(request).word));
  }
  if (::mount(entry.source.c_str(), entry.mountpoint.c_str(), nullptr, flags, nullptr) != 0) {
    return Error(errc_from_errno(errno),
                 fmt::format("cannot remount {}: {}", entry.mountpoint, strerror(errno)));
  }
  return is_writable ? ok() : commit(entry.mountpoint);
}

}  // namespace moltfs::fs::daemon
