// SPDX-License-Identifier: MIT
// Running mount(8) and umount(8) so that they only change /run/mount/utab.
#include "fs/daemon/utab.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "fs/daemon/mounts.h"
#include "fs/daemon/spawn.h"

namespace moltfs::fs::daemon {
namespace {

bool is_in_utab(const std::string& mountpoint) {
  std::ifstream file("/run/mount/utab");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return utab_names(text, mountpoint);
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

}  // namespace moltfs::fs::daemon
