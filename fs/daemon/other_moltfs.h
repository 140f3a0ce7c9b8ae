// SPDX-License-Identifier: MIT
// What the daemon of one moltfs asks the daemon of another.
#pragma once

#include <string>
#include <vector>

namespace moltfs::fs::daemon {

/// The paths of the devices of the moltfs mounted on `mountpoint`, and of the target of its replace.
/// Empty if its daemon does not answer. Looks up no name on the filesystem that this process serves.
std::vector<std::string> devices_of_moltfs(const std::string& mountpoint);

}  // namespace moltfs::fs::daemon
