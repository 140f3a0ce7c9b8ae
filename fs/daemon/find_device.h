// SPDX-License-Identifier: MIT
// Finding a device by the label or uuid of its volume, as in fstab, and what udev needs to make
// links for them. The links of udev are understood even if they do not exist.
//
//   LABEL=home  /dev/disk/by-label/home     the label of the volume
//   UUID=…      /dev/disk/by-uuid/…         the uuid of the volume
//
// Any member of a volume will do, because it names the others. The target of a replace and a device
// that was replaced are not members; they are never found.
#pragma once

#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "alloc/device/device.h"

namespace moltfs::fs::daemon {

/// True for "LABEL=…" and "UUID=…", which are not paths.
bool is_tag(std::string_view device);

/// The path to open for `device`: a tag, a link of udev, or any other path. Existing links and
/// other paths are returned unchanged. If a volume has several members, the one with the newest
/// superblock is returned. Errors, with a sentence: not_found; invalid_argument (two volumes have
/// this label).
Result<std::string> find_device(alloc::DeviceOpener& opener, const std::string& device);

/// What a udev rule imports about the member at `path`: lines ID_FS_TYPE=moltfs, ID_FS_LABEL=…
/// Errors: those of opening the device; bad_superblock if it is not a member of a moltfs.
Result<std::string> udev_properties(alloc::DeviceOpener& opener, const std::string& path);

/// `text` as in the name of a link of udev: bytes that are not safe in a name are written \xNN.
std::string link_name(const std::string& text);

}  // namespace moltfs::fs::daemon
