// SPDX-License-Identifier: MIT
// Entering another mount namespace, for the helpers of mount(8) and umount(8).
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// From now on all paths mean to this process what they mean in the mount namespace `path`, the value
/// of -N: a file like /proc/123/ns/mnt. mount(8) and umount(8) run their helpers in the namespace of
/// the caller and leave this to them. The working directory becomes the root. Errors: with a
/// sentence. REQUIRES: the process has one thread.
Result<void> enter_mount_namespace(const std::string& path);

}  // namespace moltfs::fs::daemon
