// SPDX-License-Identifier: MIT
// Comparing open devices with paths, by what they are (identity.h) and not by name.
#pragma once

#include <string>

#include "alloc/device/device.h"
#include "alloc/device/identity.h"

namespace moltfs::alloc {

/// What an open device is; null for devices that are not of this machine (simulated ones).
const Identity* identity_of(const Device& device);

/// True if `path` leads to bytes of `device`, or is its very path.
bool is_same_storage(const Device& device, const std::string& path);
/// True if writing to one changes the other.
bool is_same_storage(const Device& one, const Device& other);

}  // namespace moltfs::alloc
