// SPDX-License-Identifier: MIT
// Removing the signatures of whatever a device held before.
#pragma once

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// Overwrites the places by which other filesystems, RAID systems and partition tables are known,
/// so that no program takes the device for what it was. What was stored there is lost:
///  - the first 4 MiB (superblocks, partition tables, and our own superblocks), the last 1 MiB
///    (RAID members, ZFS labels, the backup of a GPT), and the copies of the superblocks of btrfs
///    and of the header of LUKS2 between them;
///  - on a block device or image file, also whatever libblkid still finds after that.
///
/// Durable after the next flush. REQUIRES: the device is open for writing. Errors: io_error,
/// device_gone, device_read_only.
Result<void> wipe_signatures(IoEngine& engine, Device& device);

}  // namespace moltfs::alloc
