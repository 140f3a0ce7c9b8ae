// SPDX-License-Identifier: MIT
// Mounts, swap areas and device-mapper devices as the kernel lists them.
#include "alloc/device/holder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "alloc/device/machine.h"

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

std::string mount_point_in(const std::vector<MountinfoEntry>& mounts, const Identity& what) {
  const auto has_number = [&](const MountinfoEntry& entry) {
    const dev_t number = device_number_of(entry.device_number);
    return std::any_of(what.layers.begin(), what.layers.end(), [number](const StorageLayer& layer) {
      return layer.id.is_block_device && layer.id.device == number;
    });
  };
  // Mounts of filesystems with device numbers of their own (FUSE, btrfs) are found by source. Other
  // paths than these are not touched: one on a dead network filesystem would hang.
  const auto has_source = [&](const MountinfoEntry& entry) {
    const bool is_path = entry.source.starts_with("/dev/") ||
                         (entry.source.starts_with('/') && entry.type == "fuse.moltfs");
    if (!is_path || major(device_number_of(entry.device_number)) != 0) return false;
    const auto source = identify(entry.source);
    return source && source.value().is_same(what);
  };
  return first_mount_point(
      mounts, [&](const MountinfoEntry& entry) { return has_number(entry) || has_source(entry); });
}

std::string holder_of(dev_t block_device) {
  Identity what;
  Machine machine;
  what.id = {true, block_device, 0};
  what.layers = layers_of(machine, what.id);
  const std::string mount_point = mount_point_in(machine.mounts(), what);
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
