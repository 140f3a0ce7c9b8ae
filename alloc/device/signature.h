// SPDX-License-Identifier: MIT
// What is on a device, by the signatures that filesystems and partition tables leave there.
#pragma once

#include <optional>
#include <string>

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// "moltfs" if our own signature is on the device; it is read through `engine`.
Result<std::optional<std::string>> own_signature(IoEngine& engine, Device& device);

/// What libblkid finds on the block device or image file open at `fd`: the name of a filesystem,
/// RAID member, swap area or partition table. A damaged one counts too. `path` is for messages.
/// Meanwhile nothing else may use `fd`, which loses direct I/O for that time. Errors: the device
/// cannot be read.
Result<std::optional<std::string>> foreign_signature(int fd, const std::string& path);

/// Overwrites the magic numbers of all that foreign_signature finds, one after the other, until
/// nothing is found. Durable. `fd` must be open for writing. Errors: the device cannot be read or
/// written, or a signature is found again after it was overwritten.
Result<void> erase_foreign_signatures(int fd, const std::string& path);

}  // namespace moltfs::alloc
