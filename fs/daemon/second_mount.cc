// SPDX-License-Identifier: MIT
// open_tree, mount_setattr, move_mount: the new mount has its flags before anybody sees it.
#include "fs/daemon/second_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>

#include "alloc/base/descriptor.h"
#include "alloc/base/runtime.h"
#include "alloc/base/standard_streams.h"
#include "alloc/base/utf8.h"
#include "alloc/device/holder.h"
#include "alloc/device/identity.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/client.h"
#include "fs/daemon/members.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/utab.h"

namespace moltfs::fs::daemon {
namespace {

using alloc::MountinfoEntry;

bool has_option(const MountinfoEntry& mount, std::string_view option) {
  return fmt::format(",{},", mount.options).find(fmt::format(",{},", option)) != std::string::npos;
}

Error system_error(std::string_view what, const std::string& path) {
  const int err = errno;
  return Error(errc_from_errno(err), fmt::format("{} {}: {}", what, path, strerror(err)));
}

/// False if the volume is not mounted for sure. Asks no daemon: one of another volume may hang.
bool may_be_mounted(const MountRequest& request) {
  const auto mounts = moltfs_mounts();
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  return std::any_of(request.devices.begin(), request.devices.end(), [&](const std::string& path) {
    const auto what = alloc::identify(path);
    if (what && !alloc::mount_point_in(mounts, what.value()).empty()) return true;
    const auto device = opener->open(path, {.read_only = true});
    return !device && device.error() == Errc::device_in_use;
  });
}

/// True if `wanted` are devices of the volume mounted at `mount`, by whatever names.
bool are_devices_of(const MountinfoEntry& mount, const std::vector<alloc::StorageId>& wanted) {
  const auto client = Client::open(mount.mountpoint);
  if (!client) return false;
  const auto devices = devices_of(client.value());
  return std::all_of(wanted.begin(), wanted.end(), [&](const alloc::StorageId& id) {
    return std::any_of(devices.begin(), devices.end(),
                       [&](const MountedDevice& device) { return device.identity.id == id; });
  });
}

/// A mount of the root of the volume; nothing if there is none that may be used.
std::optional<MountinfoEntry> find_mount(const MountRequest& request) {
  std::vector<alloc::StorageId> devices;
  for (const std::string& path : request.devices) {
    const auto what = alloc::identify(path);
    if (!what || what.value().layers.empty()) return std::nullopt;
    devices.push_back(what.value().id);
  }
  std::set<std::string> asked;
  for (const MountinfoEntry& mount : moltfs_mounts()) {
    if (mount.root != "/" || !has_option(mount, fmt::format("user_id={}", geteuid()))) continue;
    if (!asked.insert(mount.device_number).second) continue;
    if (are_devices_of(mount, devices)) return mount;
  }
  return std::nullopt;
}

/// A mount of its own, not yet attached to a directory. It is that of `mount` for sure: another one
/// may have been mounted over it.
Result<Descriptor> clone(const MountinfoEntry& mount) {
  Descriptor tree(
      open_tree(AT_FDCWD, mount.mountpoint.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return system_error("cannot mount a second time what is mounted on", mount.mountpoint);
  struct stat status;
  if (fstat(tree.get(), &status) != 0) return system_error("cannot ask", mount.mountpoint);
  if (status.st_dev == alloc::device_number_of(mount.device_number)) return tree;
  return Error(Errc::busy,
               fmt::format("another filesystem covers the mount on {}", mount.mountpoint));
}

Result<void> set_flags(const MountRequest& request, int tree) {
  struct Flag {
    std::string_view set, clear;
    uint64_t attribute;
  };
  constexpr Flag kFlags[] = {{"nosuid", "suid", MOUNT_ATTR_NOSUID},
                             {"nodev", "dev", MOUNT_ATTR_NODEV},
                             {"noexec", "exec", MOUNT_ATTR_NOEXEC}};
  struct mount_attr attributes {};
  for (const Flag& flag : kFlags) {
    bool is_set = false;
    for (const std::string& word : request.kernel_options) {
      if (word == flag.set || word == flag.clear) is_set = word == flag.set;
    }
    (is_set ? attributes.attr_set : attributes.attr_clr) |= flag.attribute;
  }
  (request.mount.read_only ? attributes.attr_set : attributes.attr_clr) |= MOUNT_ATTR_RDONLY;
  if (mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0) return ok();
  return system_error("cannot set the flags of the mount on", request.mountpoint);
}

/// The words of `request` that the volume does not obey, because it is mounted with others.
std::vector<std::string> not_applied(const MountRequest& request, const MountinfoEntry& mount) {
  std::vector<std::string> words;
  const auto client = Client::open(mount.mountpoint);
  if (!client) return words;
  const auto usage = client.value().get_json("usage");
  if (usage && usage.value().flag("read_only") && !request.mount.read_only) words.push_back("rw");
  const auto current = client.value().get("options");
  Policy policy;
  if (current) {
    std::string_view list = current.value();
    if (list.ends_with('\n')) list.remove_suffix(1);
    while (!list.empty()) {
      const std::string_view word = list.substr(0, list.find(','));
      (void)take_policy_word(word, policy);
      list.remove_prefix(std::min(list.size(), word.size() + 1));
    }
  }
  for (const std::string& word : request.policy_words) {
    Policy changed = policy;
    (void)take_policy_word(word, changed);
    if (changed != policy) words.push_back(word);
  }
  for (const std::string& word : request.volume_words) {
    const bool is_same =
        usage && ((word.starts_with("cache=") &&
                   usage.value().number("cache_bytes") == request.mount.cache_bytes) ||
                  (word.starts_with("commit=") &&
                   std::chrono::seconds(usage.value().number("commit_seconds")) ==
                       request.mount.commit_interval));
    if (!is_same) words.push_back(word);
  }
  return words;
}

void warn_about(const std::vector<std::string>& words, const MountinfoEntry& mount) {
  if (words.empty()) return;
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  write_to_standard_error(fmt::format(
      "moltfs mount: warning: the volume is mounted on {} already; it keeps the options "
      "of that mount, without {}\n",
      printable(mount.mountpoint), printable(list)));
}

}  // namespace

Result<bool> mount_again(const MountRequest& request) {
  if (!may_be_mounted(request)) return false;
  const auto mount = find_mount(request);
  if (!mount) return false;
  for (const MountinfoEntry& other : moltfs_mounts()) {
    if (other.mountpoint != request.mountpoint || other.device_number != mount->device_number) {
      continue;
    }
    return Error(Errc::busy, fmt::format("{} is already mounted on {}", request.devices.front(),
                                         request.mountpoint));
  }
  if (geteuid() != 0) return false;
  TRY(const auto tree, clone(*mount));
  TRY(set_flags(request, tree.get()));
  if (move_mount(tree.get(), "", AT_FDCWD, request.mountpoint.c_str(), MOVE_MOUNT_F_EMPTY_PATH) !=
      0) {
    return system_error("mount point", request.mountpoint);
  }
  warn_about(not_applied(request, *mount), *mount);
  enter_in_utab(request);
  return true;
}

}  // namespace moltfs::fs::daemon
