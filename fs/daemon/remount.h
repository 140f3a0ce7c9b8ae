// SPDX-License-Identifier: MIT
// Changing the options of a mount that is there.
#pragma once

#include <string_view>

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {

/// Changes a mount that is there: read-only or not, nosuid, nodev, noexec, and what the daemon
/// obeys itself (fs/policy.h). With no device in `request` flags that it does not name stay as they
/// are, else they go (as with mount(8)). Read-only: what was written is durable when it returns.
/// Errors: read_only (it was mounted read-only), not_permitted, busy; with a sentence.
Result<void> remount(const MountRequest& request);

/// The flags of mount(2) for that; `before`: the options of the mount, for those that `request`
/// does not name.
unsigned long remount_flags(const MountRequest& request, std::string_view before);

}  // namespace moltfs::fs::daemon
