// SPDX-License-Identifier: MIT
// The daemon of one mount: opens the volume, mounts it, serves it and closes it. README.md tells
// its life.
//
// Start   All of it happens in the child process that becomes the daemon, because threads do not
//         survive a fork. Errors are printed to the caller's standard error. The command returns
//         when the mount is ready.
// Stop    1. Somebody unmounts: the kernel has written everything back and ends the connection.
//         2. SIGTERM, SIGINT or SIGHUP: the daemon unmounts, while it still serves, because
//            unmounting writes back the page cache. If files are open it calls syncfs and then
//            detaches the mount (umount2 with MNT_DETACH). Programs lose those files, but nothing
//            that was written before the signal is lost.
//         Then requests under way are finished, the last commit is made and the devices closed.
// Killed  As after a power cut: the last commit and the fsync log count. The next mount resumes a
//         replace.
#pragma once

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Runs until the volume is unmounted; in the background, returns in the parent when the mount is
/// ready. Returns the exit code: 0, or 2 if the mount or the last commit failed.
int run(const MountRequest& request);

}  // namespace moltfs::fs::daemon
