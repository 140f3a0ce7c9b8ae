// SPDX-License-Identifier: MIT
// The kernel's table of mounts, /proc/self/mountinfo.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moltfs::alloc {

/// One line. Paths are as in the mount namespace of this process, without the kernel's escapes.
struct MountinfoEntry {
  int id = 0;                 ///< as in stx_mnt_id
  std::string device_number;  ///< "MAJOR:MINOR"
  std::string root;           ///< the directory of the filesystem that is mounted: mostly "/"
  std::string mountpoint;
  std::string type;     ///< "fuse.moltfs", "ext4"
  std::string source;   ///< as it was given to mount(2)
  std::string options;  ///< of the mount and of the superblock, with a comma in between
};

/// The kernel writes a blank, tab, newline or backslash in a path as a backslash and three octal
/// digits ("\040"). Returns the path itself; what is not such an escape stays as it is.
std::string unescape_mount_path(std::string_view text);

/// Of several mounts on one directory only the last is visible. Returns the mount that `path` lies
/// on if none of its directories is a link; null if there is none.
const MountinfoEntry* mount_of_path(const std::vector<MountinfoEntry>& mounts,
                                    std::string_view path);

/// The mount with this id (stx_mnt_id); null if this mount namespace does not have it.
const MountinfoEntry* mount_of_id(const std::vector<MountinfoEntry>& mounts, uint64_t id);

/// "MAJOR:MINOR" as a number; 0 if `text` is not that.
dev_t device_number_of(std::string_view text);

/// The entries of `text`, in its order (that of mounting). Lines that do not parse are left out.
std::vector<MountinfoEntry> parse_mountinfo(std::string_view text);

/// The mounts that this process sees; empty if the table cannot be read.
std::vector<MountinfoEntry> read_mountinfo();

}  // namespace moltfs::alloc
