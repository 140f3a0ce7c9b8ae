// SPDX-License-Identifier: MIT
// umount(2), fusermount3, and waiting for the daemon.
#include "fs/daemon/unmount.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "alloc/base/log.h"
#include "fs/daemon/client.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/spawn.h"
#include "fs/daemon/utab.h"

namespace moltfs::fs::daemon {
namespace {

constexpr int kSilentWaitMs = 5000;

Error unmount_error(int err, const std::string& mountpoint) {
  if (err == EBUSY) {
    return Error(Errc::busy, fmt::format("{} is in use: a file on it is open, or it is the working "
                                         "directory of a program",
                                         mountpoint));
  }
  return Error(errc_from_errno(err),
               fmt::format("cannot unmount {}: {}", mountpoint, strerror(err)));
}

/// The helper of libfuse, which may unmount what its user has mounted.
Result<void> fusermount(const std::string& mountpoint, bool lazy) {
  std::vector<std::string> words = {"fusermount3", "-u"};
  if (lazy) words.push_back("-z");
  words.insert(words.end(), {"--", mountpoint});
  TRY(const int status, run_program(std::move(words)));
  if (status == 0) return ok();
  return Error(Errc::busy, fmt::format("fusermount3 did not unmount {}", mountpoint));
}

/// True if the filesystem is still mounted somewhere, for instance by a bind mount.
bool is_mounted(const std::string& device_number) {
  const auto all = moltfs_mounts();
  return std::any_of(all.begin(), all.end(), [&](const alloc::MountinfoEntry& e) {
    return e.device_number == device_number;
  });
}

}  // namespace

Result<void> unmount_without_waiting(const std::string& mountpoint, const UnmountOptions& options) {
  const int flags = (options.lazy ? MNT_DETACH : 0) | (options.force ? MNT_FORCE : 0);
  if (umount2(mountpoint.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return ok();
  if (errno == EPERM && geteuid() != 0) return fusermount(mountpoint, options.lazy);
  return unmount_error(errno, mountpoint);
}

Result<void> unmount(const std::string& path, const UnmountOptions& options) {
  TRY(const auto entry, find_moltfs(path));
  std::optional<ProcessHandle> process;
  if (const auto client = Client::open(path)) {
    if (const auto identity = client.value().get("pid")) {
      process = ProcessHandle::open(identity.value());
    }
  }
  TRY(unmount_without_waiting(entry.mountpoint, options));
  remove_from_utab(entry.mountpoint);
  if (!process || options.lazy || is_mounted(entry.device_number)) return ok();
  if (process->wait(kSilentWaitMs)) return ok();
  log_warning("waiting for the last commit (process {})", process->pid());
  process->wait(-1);
  return ok();
}

}  // namespace moltfs::fs::daemon
