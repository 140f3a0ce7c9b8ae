// SPDX-License-Identifier: MIT
// What lies on a device, by the marks that filesystems and partition tables leave.
#pragma once

#include <optional>
#include <string>

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// "moltfs" if our own mark is on the device; it is read through `engine`.
Result<std::optional<std::string>> own_signature(IoEngine& engine, Device& device);

/// What libblkid finds on the block device or image file open at `fd`: the name of a filesystem,
/// RAID member, swap area or partition table. A damaged one counts too. `path` is for messages.
Result<std::optional<std::string>> foreign_signature(int fd, const std::string& path);

}  // namespace moltfs::alloc
