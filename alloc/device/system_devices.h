// SPDX-License-Identifier: MIT
// The block devices and image files of this machine.
#pragma once

#include <memory>
#include <vector>

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// `runtime` is for the threads engine. The engine is made when it is first asked for, so that a
/// program can fork before: io_uring if the kernel allows it, otherwise threads. A log line says
/// which. The environment variable MOLTFS_IO_ENGINE=io_uring|threads asks for one of them.
std::unique_ptr<DeviceOpener> make_system_devices(Runtime& runtime);

/// The descriptors of an open device: its own, then those that keep others away from it. They stay
/// the device's. Empty for devices that are not of this machine (simulated ones).
std::vector<int> descriptors_of(const Device& device);

}  // namespace moltfs::alloc
