// SPDX-License-Identifier: MIT
// The paths of devices that people give, made fit for a process with another working directory.
#pragma once

#include <string>

namespace moltfs::fs::daemon {

/// `path` made absolute, so that it means the same in the daemon. A tag (fs/daemon/find_device.h) is
/// returned unchanged. The last link is not followed: a device keeps the name it was given. The
/// directories of a path with ".." are resolved, by the kernel's rules: LINK/.. is the parent of what
/// LINK leads to. A path that leads through /proc (/proc/self/fd/3, /dev/stdin) means something else
/// in another process; it becomes the path of the file that it leads to.
std::string absolute_path(const std::string& path);

}  // namespace moltfs::fs::daemon
