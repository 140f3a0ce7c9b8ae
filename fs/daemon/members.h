// SPDX-License-Identifier: MIT
// The devices of a mounted volume, known by what they are and not by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "alloc/device/identity.h"
#include "fs/daemon/client.h"

namespace moltfs::fs::daemon {

struct MountedDevice {
  uint64_t devid = 0;
  alloc::Identity identity;
};

/// The devices of the volume that `client` talks to; empty if its daemon does not tell.
std::vector<MountedDevice> devices_of(const Client& client);

/// The one of `devices` whose bytes `path` leads to, by whatever name; nothing if there is none.
std::optional<MountedDevice> find_same(const std::vector<MountedDevice>& devices,
                                       const std::string& path);

}  // namespace moltfs::fs::daemon
