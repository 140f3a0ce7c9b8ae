// SPDX-License-Identifier: MIT
// Unmounting, and waiting until the daemon has committed and has closed the devices.
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

struct UnmountOptions {
  bool lazy = false;   ///< detach the mount although files are open; the last one closed ends it
  bool force = false;  ///< requests under way fail
};

/// Calls umount(2); if that is not permitted, runs fusermount3. Errors, with a sentence: busy,
/// not_permitted, invalid_argument.
Result<void> unmount_without_waiting(const std::string& mountpoint, const UnmountOptions& options);

/// Unmounts the moltfs on `path`. When this returns, the last commit is on the devices and they are
/// free. It does not wait with `lazy`, or if the volume is also mounted on another directory.
Result<void> unmount(const std::string& path, const UnmountOptions& options);

}  // namespace moltfs::fs::daemon
