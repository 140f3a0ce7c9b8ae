// SPDX-License-Identifier: MIT
// What is told of a volume with devices that are out.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/json.h"

namespace moltfs::fs::tool {

/// One sentence for each device that is out, with the commands that help. `devices`: the answer of
/// the endpoint "devices" (fs/mount/control.h). Empty if the volume is not degraded.
std::vector<std::string> degraded_lines(const Json& devices, const std::string& mountpoint);

}  // namespace moltfs::fs::tool
