// SPDX-License-Identifier: MIT
// Devices named by what is on them: by label or uuid, as fstab has them, or by the links that udev
// makes of these, also where no udev makes them. What udev needs to know for that.
//
//   LABEL=home  /dev/disk/by-label/home     the label of the volume
//   UUID=…      /dev/disk/by-uuid/…         the uuid of the volume
//
// Any member leads to the volume, for it names the others. Devices that are no members (the target
// of a replace, a device that was replaced) are never found.
#pragma once

#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "alloc/device/device.h"

namespace moltfs::fs::daemon {

/// True for "LABEL=…" and "UUID=…", which are no paths.
bool is_tag(std::string_view device);

/// The path of the member to open for `device`, which is a tag, a link of udev's or any other path
/// (returned as it is, as are links that exist). Of several members of one volume the newest.
/// Errors: not_found (with nobody's label), invalid_argument (two volumes have it); with a
/// sentence.
Result<std::string> find_device(alloc::DeviceOpener& opener, const std::string& device);

/// What a udev rule imports about the member at `path`: lines ID_FS_TYPE=moltfs, ID_FS_LABEL=…,
/// Errors: as find_device and opening; bad_superblock if it is no member of a moltfs.
Result<std::string> udev_properties(alloc::DeviceOpener& opener, const std::string& path);

/// `text` as it stands in the name of such a link: bytes that are not plain are written \xNN.
std::string link_name(const std::string& text);

}  // namespace moltfs::fs::daemon
