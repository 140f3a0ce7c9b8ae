// SPDX-License-Identifier: MIT
// Searching /proc/self/mountinfo.
#include "fs/daemon/mounts.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <optional>
#include <utility>

#include "fs/daemon/device_path.h"
#include "fs/mount/control.h"

namespace moltfs::fs::daemon {
namespace {

/// What can be known of a mount without /proc: it has another device number than the directory
/// above it, and a moltfs has endpoints.
std::optional<alloc::MountinfoEntry> entry_without_proc(const std::string& path) {
  struct stat root {
  }, above{};
  if (stat(path.c_str(), &root) != 0 || stat((path + "/..").c_str(), &above) != 0) return {};
  const std::string endpoint = std::string(kControlPrefix) + "pid";
  if (root.st_dev == above.st_dev || getxattr(path.c_str(), endpoint.c_str(), nullptr, 0) < 0) {
    return {};
  }
  alloc::MountinfoEntry entry;
  entry.device_number = fmt::format("{}:{}", major(root.st_dev), minor(root.st_dev));
  entry.mountpoint = path;
  entry.type = kFilesystemType;
  return entry;
}

}  // namespace

std::vector<alloc::MountinfoEntry> moltfs_mounts() {
  std::vector<alloc::MountinfoEntry> found;
  for (alloc::MountinfoEntry& entry : alloc::read_mountinfo()) {
    std::erase_if(found,
                  [&](const alloc::MountinfoEntry& e) { return e.mountpoint == entry.mountpoint; });
    if (entry.type == kFilesystemType) found.push_back(std::move(entry));
  }
  return found;
}

std::string resolved_path(const std::string& path) {
  if (char* real = realpath(path.c_str(), nullptr)) {
    std::string result = real;
    free(real);
    return result;
  }
  std::string absolute = absolute_path(path);
  for (;;) {
    if (absolute.ends_with("/.")) absolute.pop_back();
    if (absolute.size() <= 1 || !absolute.ends_with('/')) return absolute;
    absolute.pop_back();
  }
}

Result<alloc::MountinfoEntry> find_moltfs(const std::string& path) {
  const std::string resolved = resolved_path(path);
  const auto all = alloc::read_mountinfo();
  if (all.empty()) {
    if (auto entry = entry_without_proc(resolved)) return std::move(*entry);
    return Error(
        Errc::invalid_argument,
        fmt::format("/proc/self/mountinfo cannot be read, and no moltfs answers at {}", path));
  }
  const alloc::MountinfoEntry* const best = alloc::mount_of_path(all, resolved);
  if (best != nullptr && best->type == kFilesystemType) {
    if (best->mountpoint == resolved) return *best;
    return Error(Errc::invalid_argument,
                 fmt::format("{} is inside the moltfs mounted on {}; give that directory", path,
                             best->mountpoint));
  }
  if (best != nullptr && best->mountpoint == resolved) {
    return Error(Errc::invalid_argument,
                 fmt::format("{} is mounted on {}, not moltfs", best->type, path));
  }
  return Error(Errc::invalid_argument, fmt::format("no moltfs is mounted on {}", path));
}

}  // namespace moltfs::fs::daemon
