// SPDX-License-Identifier: MIT
// Reading sysfs and /proc.
#include "alloc/device/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "alloc/base/descriptor.h"
#include "alloc/base/small_file.h"
#include "alloc/device/open_path.h"

namespace moltfs::alloc {
namespace {

constexpr unsigned kLoopMajor = 7;
constexpr uint64_t kSysfsSector = 512;
constexpr std::string_view kDeleted = " (deleted)";

/// The directory of a block device in sysfs.
std::string sysfs_of(dev_t number) {
  return fmt::format("/sys/dev/block/{}:{}", major(number), minor(number));
}

/// The content of a small file without the newline at its end; empty if it cannot be read.
std::string text_of(const std::string& path) {
  std::string text = read_small_file(path).value_or("");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

uint64_t number_in(const std::string& path) {
  uint64_t number = 0;
  std::ifstream file(path);
  file >> number;
  return number;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(directory, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The value of NAME=VALUE in a list that is separated by commas.
std::string option_value(std::string_view options, std::string_view name) {
  while (!options.empty()) {
    const std::string_view word = options.substr(0, options.find(','));
    options.remove_prefix(std::min(options.size(), word.size() + 1));
    if (word.starts_with(name) && word.substr(name.size()).starts_with('=')) {
      return unescape_mount_path(word.substr(name.size() + 1));
    }
  }
  return {};
}

bool is_moltfs(const MountinfoEntry& entry) {
  return entry.type == "fuse.moltfs";
}

/// What the loop device says itself.
std::optional<StorageFacts::Loop> ask_loop(dev_t number) {
  const std::string node = Machine::node_of(number);
  if (node.empty()) return std::nullopt;
  const Descriptor fd(open(node.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info{};
  if (!fd || ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  StorageFacts::Loop loop;
  const bool is_block_device = info.lo_rdevice != 0;
  loop.backing = {is_block_device,
                  static_cast<dev_t>(is_block_device ? info.lo_rdevice : info.lo_device),
                  is_block_device ? 0 : info.lo_inode};
  loop.offset = info.lo_offset;
  loop.length = info.lo_sizelimit;
  return loop;
}

}  // namespace

const std::vector<MountinfoEntry>& Machine::mounts() {
  if (!mounts_) mounts_ = read_mountinfo();
  return *mounts_;
}

Result<Machine::Thing> Machine::at(int fd, const std::string& path) {
  struct statx status {};
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID,
            &status) != 0) {
    return Error(errc_from_errno(errno), fmt::format("{}: {}", path, text_of_errno(errno)));
  }
  Thing thing;
  thing.mode = status.stx_mode;
  if (S_ISBLK(thing.mode)) {
    thing.id = {true, makedev(status.stx_rdev_major, status.stx_rdev_minor), 0};
  } else {
    thing.id = {false, makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino};
  }
  const bool has_mount = (status.stx_mask & STATX_MNT_ID) != 0;
  const auto* mount = has_mount ? mount_of_id(mounts(), status.stx_mnt_id) : nullptr;
  if (mount != nullptr) thing.filesystem = device_number_of(mount->device_number);
  return thing;
}

Result<Machine::Thing> Machine::at(const std::string& path) {
  TRY(const auto fd, open_path(path));
  return at(fd.get(), path);
}

dev_t Machine::filesystem_of_text(const std::string& path) {
  const MountinfoEntry* const mount = mount_of_path(mounts(), path);
  return mount == nullptr ? 0 : device_number_of(mount->device_number);
}

std::string Machine::node_of(dev_t block_device) {
  std::ifstream file(sysfs_of(block_device) + "/uevent");
  constexpr std::string_view kName = "DEVNAME=";
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kName)) continue;
    std::string node = "/dev/" + line.substr(kName.size());
    struct stat status;
    const bool is_it = stat(node.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
                       status.st_rdev == block_device;
    return is_it ? node : std::string();
  }
  return {};
}

std::vector<dev_t> Machine::loop_devices() {
  std::vector<dev_t> numbers;
  for (const std::string& name : names_in("/sys/block")) {
    if (!name.starts_with("loop") || text_of("/sys/block/" + name + "/loop/backing_file").empty()) {
      continue;
    }
    if (const dev_t number = device_number_of(text_of("/sys/block/" + name + "/dev"))) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

/// What sysfs says about a loop device whose node cannot be opened.
std::optional<StorageFacts::Loop> Machine::loop_by_path(const std::string& directory,
                                                        const std::string& path) {
  const auto backing = at(path);
  if (!backing || (!S_ISREG(backing.value().mode) && !S_ISBLK(backing.value().mode))) {
    return std::nullopt;
  }
  Loop loop;
  loop.backing = backing.value().id;
  loop.offset = number_in(directory + "/offset");
  loop.length = number_in(directory + "/sizelimit");
  return loop;
}

std::optional<StorageFacts::Loop> Machine::loop(dev_t block_device) {
  if (major(block_device) != kLoopMajor) return std::nullopt;
  const std::string directory = sysfs_of(block_device) + "/loop";
  std::string path = text_of(directory + "/backing_file");
  if (path.empty() && std::filesystem::exists("/sys/dev/block")) return std::nullopt;
  auto found = ask_loop(block_device);
  if (!found) found = loop_by_path(directory, path);
  if (!found) return std::nullopt;
  const dev_t text = filesystem_of_text(path);
  if (!found->backing.is_block_device) found->filesystem = text;
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  found->path = std::move(path);
  return found;
}

std::vector<dev_t> Machine::partitions_of(dev_t disk) {
  std::vector<dev_t> numbers;
  const std::string directory = sysfs_of(disk);
  for (const std::string& name : names_in(directory)) {
    if (text_of(directory + "/" + name + "/partition").empty()) continue;
    if (const dev_t number = device_number_of(text_of(directory + "/" + name + "/dev"))) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

dev_t Machine::filesystem_of_loop(dev_t loop_device) {
  return filesystem_of_text(text_of(sysfs_of(loop_device) + "/loop/backing_file"));
}

bool Machine::may_block(dev_t loop_device) {
  const std::string path = text_of(sysfs_of(loop_device) + "/loop/backing_file");
  const MountinfoEntry* const mount = mount_of_path(mounts(), path);
  if (mount == nullptr) return false;
  const std::string& type = mount->type;
  constexpr std::string_view kRemote[] = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs"};
  return type.starts_with("fuse") ||
         std::find(std::begin(kRemote), std::end(kRemote), type) != std::end(kRemote);
}

std::optional<StorageFacts::Partition> Machine::partition(dev_t block_device) {
  const std::string directory = sysfs_of(block_device);
  if (text_of(directory + "/partition").empty()) return std::nullopt;
  Partition partition;
  partition.disk = device_number_of(text_of(directory + "/../dev"));
  partition.start = number_in(directory + "/start") * kSysfsSector;
  partition.length = number_in(directory + "/size") * kSysfsSector;
  if (partition.disk == 0 || partition.length == 0) return std::nullopt;
  return partition;
}

std::vector<dev_t> Machine::components(dev_t block_device) {
  const std::string directory = sysfs_of(block_device) + "/slaves";
  std::vector<dev_t> numbers;
  for (const std::string& name : names_in(directory)) {
    if (const dev_t number = device_number_of(text_of(directory + "/" + name + "/dev"))) {
      numbers.push_back(number);
    }
  }
  return numbers;
}

/// Adds what the path `path` leads to: a device, or the filesystem of a file or directory.
void Machine::add_source(const std::string& path, Below& below) {
  if (!path.starts_with('/')) return;
  const auto what = at(path);
  if (!what) {
    if (what.error() == Errc::bad_target) below.filesystems.push_back(served_filesystem());
    return;
  }
  if (what.value().id.is_block_device) {
    below.storages.push_back(what.value().id);
  } else {
    below.filesystems.push_back(what.value().filesystem);
    below.filesystems.push_back(what.value().id.device);
  }
}

StorageFacts::Below Machine::below(dev_t filesystem) {
  Below found;
  if (major(filesystem) != 0) found.storages.push_back({true, filesystem, 0});
  bool was_asked = false;
  for (const MountinfoEntry& entry : mounts()) {
    if (device_number_of(entry.device_number) != filesystem) continue;
    const bool is_overlay = entry.type == "overlay";
    const bool is_stacked = is_overlay || (entry.type.starts_with("fuse") && !is_moltfs(entry));
    // The names of its layers may be relative, or those of another mount namespace.
    if (is_stacked && served_filesystem() != 0 && has_served_attribute(entry.mountpoint)) {
      found.filesystems.push_back(served_filesystem());
    }
    if (is_overlay) {
      std::string layers =
          option_value(entry.options, "lowerdir") + ":" + option_value(entry.options, "upperdir");
      for (size_t at = 0; at < layers.size();) {
        const size_t end = std::min(layers.find(':', at), layers.size());
        add_source(layers.substr(at, end - at), found);
        at = end + 1;
      }
      continue;
    }
    add_source(entry.source, found);
    if (!is_moltfs(entry) || entry.root != "/" || was_asked) continue;
    was_asked = true;
    for (const std::string& path : devices_of_other_moltfs(entry.mountpoint)) {
      add_source(path, found);
    }
  }
  return found;
}

bool Machine::is_swap_file(const StorageLayer& file) {
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    const std::string path = unescape_mount_path(line.substr(0, line.find_first_of(" \t")));
    if (!path.starts_with('/') || path.starts_with("/dev/")) continue;
    const dev_t filesystem = filesystem_of_text(path);
    if (filesystem != file.filesystem && filesystem != file.id.device) continue;
    const auto what = at(path);
    if (what && what.value().id == file.id) return true;
  }
  return false;
}

}  // namespace moltfs::alloc
