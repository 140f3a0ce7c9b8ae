// SPDX-License-Identifier: MIT
// Opening a name without opening the device, and without entering the filesystem that this process
// serves. identity.h tells why.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/descriptor.h"
#include "alloc/base/error.h"

namespace moltfs::alloc {

/// Opens the name with O_PATH: no device is touched. Errors, each with a sentence that begins with
/// the path: those of open(2); bad_target if the name lies on the served filesystem.
Result<Descriptor> open_path(const std::string& path);

/// The paths of the devices of the moltfs mounted on `mountpoint`, and of the target of its replace.
using DevicesOfMoltfs = std::function<std::vector<std::string>(const std::string& mountpoint)>;

/// This process serves the filesystem with this device number ("0:57", as in mountinfo). From now
/// on open_path() does not enter it. `devices_of_moltfs` asks the daemon of another moltfs, and opens
/// the mount point by open_path(). To be called once.
void set_served_filesystem(std::string_view device_number, DevicesOfMoltfs devices_of_moltfs);

/// The device number of the filesystem that this process serves; 0: none.
dev_t served_filesystem();

/// An extended attribute that the served filesystem has on each file and directory: its device
/// number. A filesystem that is stacked on it (overlayfs, FUSE) hands the question down.
inline constexpr const char* kServedAttribute = "user.moltfs.served";
std::string served_attribute();
/// True if the directory `path` of a stacked filesystem is one of the served filesystem.
bool has_served_attribute(const std::string& path);

/// What `devices_of_moltfs` answers. Empty if this process serves no filesystem.
std::vector<std::string> devices_of_other_moltfs(const std::string& mountpoint);

/// The error of a name that lies on the served filesystem.
Error lies_on_served(const std::string& path);

}  // namespace moltfs::alloc
