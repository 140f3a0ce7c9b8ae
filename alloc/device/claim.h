// SPDX-License-Identifier: MIT
// Claiming a device against other users, under any of its names. Used only inside this folder.
//
// A block device is claimed by O_EXCL, an image file by a lock (F_OFD_SETLK). Both say something
// about one name only: a loop device and its file, or two loop devices on one file, would be claimed
// one beside the other. So what lies under a device is claimed with it:
//
//   a file           its range is locked: two partitions of an image do not disturb each other
//   a block device   under a loop device it is opened with O_EXCL. The kernel itself keeps others
//                    away from the disk of a partition and from the devices of a device mapper
//
// Loop devices above it are only looked at: nobody may use one of them.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/descriptor.h"
#include "alloc/base/error.h"
#include "alloc/device/identity.h"

namespace moltfs::alloc {

/// Released with the descriptors.
using Claims = std::vector<Descriptor>;

/// Claims what lies under the device `what`, which the caller itself has opened exclusively or
/// locked. A file that cannot be opened (it was deleted, it is not visible here, no permission) is
/// left out; then only the loop devices above it are looked at. Error: device_in_use, with a
/// sentence that begins with `path` and says who uses it, if that is known.
Result<Claims> claim_layers(const Identity& what, const std::string& path, bool read_only);

/// Locks the range of the image file open at `fd`: `read_only` shares it with other readers.
/// Errors: device_in_use, and those of fcntl(2). A filesystem without locks: only a warning.
Result<void> lock_range(int fd, const StorageLayer& range, const Identity& what,
                        const std::string& path, bool read_only);

}  // namespace moltfs::alloc
