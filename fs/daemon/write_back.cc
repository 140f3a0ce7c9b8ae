// SPDX-License-Identifier: MIT
// syncfs(2) and fsync(2) of the root of a mount.
#include "fs/daemon/write_back.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>

namespace moltfs::fs::daemon {
namespace {

/// A process that was killed while the kernel wrote the times of its file leaves EINTR behind, once
/// for each such file. It says nothing about this call.
constexpr int kAttempts = 100;

Result<void> sync_root(const std::string& mountpoint, int (*sync)(int fd)) {
  const int fd = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool done = fd >= 0 && sync(fd) == 0;
  for (int i = 1; i < kAttempts && fd >= 0 && !done && errno == EINTR; ++i) done = sync(fd) == 0;
  const int err = errno;
  if (fd >= 0) close(fd);
  if (done) return ok();
  return Error(errc_from_errno(err), fmt::format("{}: {}", mountpoint, strerror(err)));
}

}  // namespace

Result<void> write_back_cache(const std::string& mountpoint) {
  return sync_root(mountpoint, syncfs);
}

Result<void> commit_received(const std::string& mountpoint) {
  return sync_root(mountpoint, fsync);
}

}  // namespace moltfs::fs::daemon
