// SPDX-License-Identifier: MIT
// Unmounting, and waiting until the daemon has committed and closed the devices.
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

struct UnmountOptions {
  bool lazy = false;   ///< detach now, though files are open
  bool force = false;  ///< end requests under way with errors
};

/// The system call as root, else fusermount3. Errors: busy, not_permitted, invalid_argument, with
/// a sentence.
Result<void> detach_mount(const std::string& mountpoint, const UnmountOptions& options);

/// Unmounts the moltfs on `path`; when it returns the last commit is on the devices and they are
/// free. Not waited for: with `lazy`, the last open file; another place where it is mounted too.
Result<void> unmount(const std::string& path, const UnmountOptions& options);

}  // namespace moltfs::fs::daemon
