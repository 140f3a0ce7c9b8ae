// SPDX-License-Identifier: MIT
#include "fs/daemon/mount_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>

#include "alloc/base/descriptor.h"

namespace moltfs::fs::daemon {

Result<void> enter_mount_namespace(const std::string& path) {
  const Descriptor name_space(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (name_space && setns(name_space.get(), CLONE_NEWNS) == 0) return ok();
  const int err = errno;
  return Error(errc_from_errno(err),
               fmt::format("cannot enter the mount namespace {}: {}", path, text_of_errno(err)));
}

}  // namespace moltfs::fs::daemon
