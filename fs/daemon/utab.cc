// SPDX-License-Identifier: MIT
// Running mount(8) and umount(8) so that they only change /run/mount/utab.
#include "fs/daemon/utab.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "alloc/base/small_file.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/spawn.h"

namespace moltfs::fs::daemon {
namespace {

bool is_in_utab(const std::string& mountpoint) {
  return utab_names(read_small_file("/run/mount/utab").value_or(""), mountpoint);
}

}  // namespace

/// SRC=/dev/sda TARGET=/mnt ROOT=/ OPTS=uhelper=moltfs
bool utab_names(std::string_view utab, std::string_view mountpoint) {
  constexpr std::string_view kTarget = "TARGET=";
  std::istringstream words{std::string(utab)};
  for (std::string word; words >> word;) {
    if (word.starts_with(kTarget) &&
        alloc::unescape_mount_path(word.substr(kTarget.size())) == mountpoint) {
      return true;
    }
  }
  return false;
}

void enter_in_utab(const MountRequest& request) {
  if (geteuid() != 0 || is_in_utab(request.mountpoint)) return;
  std::string options = "uhelper=moltfs";
  for (const std::string& word : request.utab_words) options += "," + word;
  // "-i -f": calls neither our helper nor mount(2), but writes the line.
  (void)run_program({"mount", "-i", "-f", "--no-canonicalize", "-t", std::string(kFilesystemType),
                     "-o", options, "--", request.devices.front(), request.mountpoint},
                    true);
}

void remove_from_utab(const std::string& mountpoint) {
  if (geteuid() != 0 || !is_in_utab(mountpoint)) return;
  (void)run_program({"umount", "-i", "--fake", "--no-canonicalize", "--", mountpoint}, true);
}

void remove_from_utab_if_unmounted(const std::string& mountpoint) {
  const auto mounts = moltfs_mounts();
  const bool is_mounted = std::any_of(
      mounts.begin(), mounts.end(),
      [&](const alloc::MountinfoEntry& entry) { return entry.mountpoint == mountpoint; });
  if (!is_mounted) remove_from_utab(mountpoint);
}

}  // namespace moltfs::fs::daemon
