// SPDX-License-Identifier: MIT
// The kernel's table of mounts, and which entries of it are moltfs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

inline constexpr std::string_view kFilesystemType = "fuse.moltfs";

struct MountEntry {
  std::string device_number;  ///< "MAJOR:MINOR"
  std::string mountpoint;
  std::string type;     ///< "fuse.moltfs", "ext4"
  std::string source;   ///< first device, as it was given
  std::string options;  ///< of the mount and the superblock, with a comma in between
};

/// Blanks, tabs, newlines and backslashes in paths are written "\040" and so on.
std::string unescape(std::string_view text);

/// Lines of /proc/self/mountinfo; those that do not parse are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);
std::vector<MountEntry> mounts();
/// All mounted moltfs, in the order of mounting; of several on one mount point the last.
std::vector<MountEntry> moltfs_mounts();

/// The moltfs mounted on `path`. Errors: invalid_argument with a sentence (nothing is mounted
/// there, something else is, `path` lies inside of one).
Result<MountEntry> find_moltfs(const std::string& path);

/// `path` absolute, links resolved; as it was (made absolute) where that is not possible, for
/// instance as the daemon of a mount is dead.
std::string resolved_path(const std::string& path);

}  // namespace moltfs::fs::daemon
