// SPDX-License-Identifier: MIT
// syncfs(2) and fsync(2) of the root of a mount.
#include "fs/daemon/write_back.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>

#include "alloc/base/descriptor.h"

namespace moltfs::fs::daemon {
namespace {

/// A process that was killed while the kernel wrote the times of its file leaves EINTR behind, once
/// for each such file. It says nothing about this call.
constexpr int kAttempts = 100;

Result<void> sync_root(const std::string& mountpoint, int (*sync)(int fd)) {
  const Descriptor root(open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int attempt = 1; root; ++attempt) {
    if (sync(root.get()) == 0) return ok();
    if (errno != EINTR || attempt == kAttempts) break;
  }
  const int err = errno;
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
