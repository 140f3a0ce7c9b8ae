// SPDX-License-Identifier: MIT
// Changing the options of a mounted volume.
#pragma once

#include <string_view>

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Changes the flags of the kernel (ro, nosuid, nodev, noexec, ...) and the options of fs/policy.h.
/// If `request` has no device, flags that it does not name stay; otherwise they are cleared, as by
/// mount(8). When a mount has become read-only, everything written before is durable. Errors, with
/// a sentence: read_only (the volume cannot become writable), not_permitted, busy.
Result<void> remount(const MountRequest& request);

/// The flags for mount(2). `before`: the present options of the mount, for flags that `request`
/// does not name.
unsigned long remount_flags(const MountRequest& request, std::string_view before);

}  // namespace moltfs::fs::daemon
