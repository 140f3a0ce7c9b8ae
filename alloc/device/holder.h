// SPDX-License-Identifier: MIT
// Who uses a block device, for messages.
#pragma once

#include <sys/types.h>

#include <string>

namespace moltfs::alloc {

/// "mounted on /mnt/x", "used for swap", "held by dm-0"; empty if nobody is known to use the block
/// device with this number.
std::string holder_of(dev_t block_device);

/// The part of holder_of that reads /proc/self/mountinfo, on the text `mountinfo`: where the device
/// is mounted, or empty.
std::string mount_point_in(const std::string& mountinfo, dev_t block_device);

}  // namespace moltfs::alloc
