// SPDX-License-Identifier: MIT
// Unmounting, and waiting until the daemon has committed and has closed the devices.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

struct UnmountOptions {
  bool lazy = false;   ///< detach the mount although files are open; the last one closed ends it
  bool force = false;  ///< requests under way fail; nothing is committed first
};

/// Calls umount(2); if that is not permitted, runs fusermount3. Errors, with a sentence: busy,
/// not_permitted, invalid_argument.
Result<void> unmount_without_waiting(const std::string& mountpoint, const UnmountOptions& options);

/// Unmounts the moltfs on `path`. First everything written is committed. If that fails, the mount
/// stays, unless `lazy` or `force`, and the error is returned in either case. When this returns, the
/// last commit is on the devices and they are free. It does not wait for that with `lazy`, or if the
/// volume is also mounted on another directory or in another mount namespace; the latter is said on
/// standard error. Errors besides those of find_moltfs and unmount_without_waiting: those of the
/// commits, with a sentence.
Result<void> unmount(const std::string& path, const UnmountOptions& options);

struct UnmountedEverywhere {
  bool in_use = false;  ///< files are open: the kernel keeps the connection for them
  std::vector<std::string> warnings;
};
/// Unmounts the filesystem with this device number ("0:57") from all places where it is mounted: it
/// may have been moved or bound elsewhere. If files are open, their data is written back first, and
/// then the mount is detached. REQUIRES: the daemon serves meanwhile.
UnmountedEverywhere unmount_everywhere(const std::string& device_number);

}  // namespace moltfs::fs::daemon
