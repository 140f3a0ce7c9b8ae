// SPDX-License-Identifier: MIT
// The daemon of one mount: opens the volume, mounts it, serves it, and takes it down again.
//
// Start   a device given as LABEL= or UUID= is looked for (find_device.h); devices that the daemon
//         of an earlier mount has not let go yet are waited for. Errors go to the caller's standard
//         error, and the command returns when the mount is ready. All of it happens in the child
//         that becomes the daemon: threads do not survive a fork.
// Stop    1. somebody unmounts: the kernel has written everything back and ends the connection; or
//         2. SIGTERM, SIGINT, SIGHUP: the daemon unmounts by itself, while it still serves, for
//            unmounting writes back what is in the page cache. If files are open the write-back is
//            asked for (syncfs) and the mount is detached: those files are gone for who has them
//            open, but nothing written before the signal is lost.
//         Then requests under way end, the volume has its last commit, devices are closed.
// Killed  as after a power cut: the last commit counts, the next mount takes up a replace.
#pragma once

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Runs until unmounted (in the background: returns at once in the parent). The exit code: 0, or 2
/// if it could not mount or the last commit failed.
int run(const MountRequest& request);

}  // namespace moltfs::fs::daemon
