// SPDX-License-Identifier: MIT
// Who uses a device, for messages.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {

/// "mounted on /mnt/x", "used for swap", "held by dm-0"; empty if nobody is known to use the block
/// device with this number.
std::string holder_of(dev_t block_device);

/// Who has an image file locked: "mounted on /mnt/x" if it is a mount's first device, else
/// "locked by another mount or program".
std::string holder_of(const std::string& image);

/// The parts of holder_of that search the table of mounts: where the block device or image is
/// mounted, or empty.
std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, dev_t block_device);
std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, const std::string& image);

}  // namespace moltfs::alloc
