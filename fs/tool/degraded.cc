// SPDX-License-Identifier: MIT
// The sentences about devices that are out.
#include "fs/tool/degraded.h"

#include <fmt/format.h>

#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"

namespace moltfs::fs::tool {

std::vector<std::string> degraded_lines(const Json& devices, const std::string& mountpoint) {
  std::vector<std::string> lines;
  for (const Json& device : devices.elements("devices")) {
    if (device.text("state") != "out") continue;
    const uint64_t devid = device.number("devid");
    const std::string path = device.text("path");
    lines.push_back(printable(fmt::format(
        "degraded: devid {} ({}, {}, uuid {}) is out and lacks what was written since generation "
        "{}; "
        "\"moltfs device online {} {}\" brings it back, \"moltfs replace start {} DEVICE {}\" "
        "replaces it",
        devid, path.empty() ? "path not known" : path, human_size(device.number("size_bytes")),
        device.text("uuid"), device.number("whole_until_generation"), devid, mountpoint, devid,
        mountpoint)));
  }
  return lines;
}

}  // namespace moltfs::fs::tool
