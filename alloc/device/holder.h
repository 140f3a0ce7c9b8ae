// SPDX-License-Identifier: MIT
// Who uses a device, for error messages.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "alloc/device/identity.h"
#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {

/// Who uses the block device with this number: "mounted on /mnt/x", "used for swap" or "held by
/// dm-0"; empty if unknown.
std::string holder_of(dev_t block_device);

/// Where the storage is mounted according to `mounts`: itself, or another name of it (a loop device
/// on it, its file). Of a moltfs only the first device is known. Empty if it is not mounted.
std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, const Identity& what);

}  // namespace moltfs::alloc
