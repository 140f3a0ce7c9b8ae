// SPDX-License-Identifier: MIT
// The key "storage" of the endpoint "devices" (fs/mount/control.h).
#include "fs/daemon/members.h"

namespace moltfs::fs::daemon {

std::vector<MountedDevice> devices_of(const Client& client) {
  std::vector<MountedDevice> devices;
  const auto json = client.get_json("devices");
  if (!json) return devices;
  for (const Json& device : json.value().elements("devices")) {
    const auto id = alloc::parse_storage_id(device.text("storage"));
    if (id) devices.push_back({device.number("devid"), alloc::identity_of(*id)});
  }
  return devices;
}

std::optional<MountedDevice> find_same(const std::vector<MountedDevice>& devices,
                                       const std::string& path) {
  const auto what = alloc::identify(path);
  if (!what) return std::nullopt;
  for (const MountedDevice& device : devices) {
    if (device.identity.is_same(what.value())) return device;
  }
  return std::nullopt;
}

}  // namespace moltfs::fs::daemon
