// SPDX-License-Identifier: MIT
// Mounts, swap areas and device-mapper devices as the kernel lists them.
#include "alloc/device/holder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace moltfs::alloc {
namespace {

/// Looks only at names in /dev: stat elsewhere could hang on a dead network filesystem.
bool names_block_device(const std::string& path, dev_t block_device) {
  struct stat status;
  return path.starts_with("/dev/") && stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
         status.st_rdev == block_device;
}

/// Mount point of the first entry for which `matches(entry)`; empty if there is none.
template <class Matches>
std::string first_mount_point(const std::vector<MountinfoEntry>& mounts, const Matches& matches) {
  const auto found = std::find_if(mounts.begin(), mounts.end(), matches);
  return found == mounts.end() ? std::string() : found->mountpoint;
}

bool is_swap(dev_t block_device) {
  std::ifstream swaps("/proc/swaps");
  std::string line;
  while (std::getline(swaps, line)) {
    if (names_block_device(unescape_mount_path(line.substr(0, line.find_first_of(" \t"))),
                           block_device)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, dev_t block_device) {
  const std::string number = fmt::format("{}:{}", major(block_device), minor(block_device));
  // Mounts of filesystems with device numbers of their own (FUSE, btrfs) are found by source.
  return first_mount_point(mounts, [&](const MountinfoEntry& entry) {
    return entry.device_number == number || names_block_device(entry.source, block_device);
  });
}

std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, const std::string& image) {
  return first_mount_point(mounts,
                           [&](const MountinfoEntry& entry) { return entry.source == image; });
}

std::string holder_of(const std::string& image) {
  const std::string mount_point = mount_point_in(read_mountinfo(), image);
  return mount_point.empty() ? "locked by another mount or program" : "mounted on " + mount_point;
}

std::string holder_of(dev_t block_device) {
  const std::string mount_point = mount_point_in(read_mountinfo(), block_device);
  if (!mount_point.empty()) return "mounted on " + mount_point;
  if (is_swap(block_device)) return "used for swap";

  std::error_code error;
  const auto holders =
      fmt::format("/sys/dev/block/{}:{}/holders", major(block_device), minor(block_device));
  for (const auto& entry : std::filesystem::directory_iterator(holders, error)) {
    return "held by " + entry.path().filename().string();
  }
  return {};
}

}  // namespace moltfs::alloc
