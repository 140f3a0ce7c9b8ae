// SPDX-License-Identifier: MIT
// The line about a mount in /run/mount/utab, the table of mount(8) and umount(8).
//
// umount(8) recognises a FUSE filesystem by statfs(2), which does not tell its type, and then calls
// no helper: it would not wait for the last commit. If the mount point has a line in utab,
// umount(8) reads the kernel's table of mounts, finds the type and calls our helper. mount(8)
// writes a line only for its own options, so we have mount(8) write one for each mount. A line that
// a killed daemon leaves behind does no harm; the next mount on that directory uses it.
#pragma once

#include <string>
#include <string_view>

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Adds the line for a mount that exists, so that umount(8) calls our helper. Does nothing without
/// root or without a mount(8).
void enter_in_utab(const MountRequest& request);
/// Removes the line of a mount that was not unmounted by umount(8).
void remove_from_utab(const std::string& mountpoint);
/// The same, unless a moltfs is mounted there again.
void remove_from_utab_if_unmounted(const std::string& mountpoint);

/// Whether a line of `utab` is about the mount point `mountpoint`.
bool utab_names(std::string_view utab, std::string_view mountpoint);

}  // namespace moltfs::fs::daemon
