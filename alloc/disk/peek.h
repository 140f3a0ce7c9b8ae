// SPDX-License-Identifier: MIT
// Reading what is on a device that others may be using: read-only and without claiming it.
#pragma once

#include <memory>
#include <string>

#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

/// Opens `path` read-only and shared: this neither fails because somebody uses the device nor keeps
/// anybody from using it. Errors: those of DeviceOpener::open but device_in_use.
Result<std::shared_ptr<Device>> open_shared(DeviceOpener& opener, const std::string& path);

/// The superblock that counts on the device at `path`. If the device is in use, it may be out of
/// date when this returns. Errors: those of open_shared and of read_superblock.
Result<Superblock> peek_superblock(DeviceOpener& opener, const std::string& path);

}  // namespace moltfs::alloc
