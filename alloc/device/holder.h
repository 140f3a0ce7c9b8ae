// SPDX-License-Identifier: MIT
// Who uses a device, for error messages.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {

/// Who uses the block device with this number: "mounted on /mnt/x", "used for swap" or "held by
/// dm-0"; empty if unknown.
std::string holder_of(dev_t block_device);

/// Who has an image file locked: "mounted on /mnt/x" if it is the first device of a mount,
/// otherwise "locked by another mount or program".
std::string holder_of(const std::string& image);

/// Where the block device or image is mounted according to `mounts`; empty if it is not.
std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, dev_t block_device);
std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, const std::string& image);

}  // namespace moltfs::alloc
