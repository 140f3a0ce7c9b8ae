// SPDX-License-Identifier: MIT
// Mounting a volume that is mounted already: it becomes visible at another place as well, as with
// filesystems of the kernel.
//
// The same device at another place is the same filesystem there: a bind mount of its root, with
// flags of its own (ro, nosuid, nodev, noexec). Options that concern the volume stay as they are. The
// volume closes with the last of its mounts.
//
// What is not done: a device that only leads to the same bytes (another loop device on the file) is
// refused as in use, as the kernel does. An ordinary user cannot make bind mounts. Root never gets a
// mount that the daemon of an ordinary user serves: anybody can mount a FUSE filesystem and call its
// source /dev/sda1.
#pragma once

#include "alloc/base/error.h"
#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// If the devices of `request` belong to a volume that this user has mounted visibly, mounts it at
/// request.mountpoint, too, and returns true. A warning on standard error names the options that
/// were not applied. False: it is not mounted, or not so that it can be mounted again; nothing was
/// done. Errors, with a sentence: busy (it is mounted on that very directory), and those of the
/// system calls.
Result<bool> mount_again(const MountRequest& request);

}  // namespace moltfs::fs::daemon
