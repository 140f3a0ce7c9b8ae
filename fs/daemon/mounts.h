// SPDX-License-Identifier: MIT
// Which mounts are moltfs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/device/mountinfo.h"

namespace moltfs::fs::daemon {

inline constexpr std::string_view kFilesystemType = "fuse.moltfs";

/// All mounted moltfs, in the order of mounting. Of several mounts on one directory, only the last.
std::vector<alloc::MountinfoEntry> moltfs_mounts();

/// The moltfs that is mounted on `path`. Error: invalid_argument, with a sentence (nothing or
/// another filesystem is mounted there, or `path` is a directory inside a moltfs).
Result<alloc::MountinfoEntry> find_moltfs(const std::string& path);

/// `path` made absolute, with links resolved. Links are not resolved where that is impossible, for
/// instance because the daemon of a mount is dead.
std::string resolved_path(const std::string& path);

}  // namespace moltfs::fs::daemon
