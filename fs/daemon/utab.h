// SPDX-License-Identifier: MIT
// What mount(8) and umount(8) keep about a mount beside the kernel: lines of /run/mount/utab.
//
// umount(8) knows a FUSE filesystem by statfs(2), which does not tell that it is ours, and calls no
// helper of ours then: it would not wait for the last commit. Only of what has a line there it
// reads the table of mounts, and finds the helper. mount(8) writes such lines for options that are
// its own; here we see to it that there is one, by way of mount(8). A line that is left behind, by
// a daemon that was killed, does no harm, and serves the next mount in that place.
#pragma once

#include <string>
#include <string_view>

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Sees to it that umount(8) will call our helper for the mount, which is there already. As root,
/// where there is a mount(8); else nothing.
void enter_in_utab(const MountRequest& request);
/// The mount is gone, but not by umount(8).
void remove_from_utab(const std::string& mountpoint);

/// Whether one of the lines is about something mounted on `mountpoint`.
bool utab_names(std::string_view utab, std::string_view mountpoint);

}  // namespace moltfs::fs::daemon
