// SPDX-License-Identifier: MIT
// Locks on files, exclusive opens of block devices.
#include "alloc/device/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "alloc/base/log.h"
#include "alloc/device/holder.h"
#include "alloc/device/machine.h"

namespace moltfs::alloc {
namespace {

Error in_use(const std::string& path, const std::string& holder) {
  return Error(Errc::device_in_use,
               fmt::format("{}: is in use{}{}", path, holder.empty() ? "" : ": ", holder));
}

/// Opens the block device with O_EXCL. Nothing: it cannot be opened. Error: device_in_use.
Result<Descriptor> open_exclusively(dev_t block_device, const std::string& path) {
  const std::string node = Machine::node_of(block_device);
  if (node.empty()) return Descriptor();
  Descriptor fd(open(node.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK));
  if (fd || errno != EBUSY) return fd;
  const std::string holder = holder_of(block_device);
  return in_use(path, holder.empty() ? node + " is in use" : node + " is " + holder);
}

/// Opens the file of a loop device. Nothing: it is not where it was, or may not be opened.
Descriptor open_file(const StorageLayer& file, bool read_only) {
  const auto found = open_path(file.path);
  if (!found) return {};
  const auto what = identify(found.value().get(), file.path);
  if (!what || what.value().id != file.id) return {};
  const std::string name = fmt::format("/proc/self/fd/{}", found.value().get());
  return Descriptor(open(name.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
}

/// Error: device_in_use if somebody uses the disk, or a partition of it that overlaps with `what`.
Result<void> check_unused(Machine& machine, dev_t disk, const Identity& what,
                          const std::string& path) {
  const auto whole = open_exclusively(disk, path);
  if (whole) return ok();
  // A user of the whole disk keeps all partitions from being opened; a user of a partition keeps the
  // whole disk from being opened. One partition that can be opened distinguishes the two.
  bool only_partitions_are_used = false;
  std::optional<Error> used;
  for (const dev_t partition : Machine::partitions_of(disk)) {
    const auto part = open_exclusively(partition, path);
    if (part) {
      only_partitions_are_used = true;
    } else if (overlap(layers_of(machine, {true, partition, 0}), what.layers)) {
      used = part.error();
    }
  }
  if (!only_partitions_are_used) return whole.error();
  if (used) return *used;
  return ok();
}

Result<void> check_loop_devices(Machine& machine, const Identity& what, const std::string& path) {
  for (const dev_t number : Machine::loop_devices()) {
    const bool is_below =
        std::any_of(what.layers.begin(), what.layers.end(), [number](const StorageLayer& layer) {
          return layer.id.is_block_device && layer.id.device == number;
        });
    if (is_below) continue;
    const bool is_near =
        std::any_of(what.layers.begin(), what.layers.end(), [&](const StorageLayer& layer) {
          return layer.filesystem != 0 && layer.filesystem == machine.filesystem_of_loop(number);
        });
    if (machine.may_block(number) && !is_near) continue;
    if (!overlap(layers_of(machine, {true, number, 0}), what.layers)) continue;
    TRY(check_unused(machine, number, what, path));
  }
  return ok();
}

}  // namespace

Result<void> lock_range(int fd, const StorageLayer& range, const Identity& what,
                        const std::string& path, bool read_only) {
  struct flock lock {};
  lock.l_type = read_only ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.start);
  // 0: to the end, however long the file gets
  lock.l_len =
      range.end == StorageLayer::kToTheEnd ? 0 : static_cast<off_t>(range.end - range.start);
  if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return ok();
  const int err = errno;
  switch (err) {
    case EAGAIN:
    case EACCES: {
      const std::string mount_point = mount_point_in(read_mountinfo(), what);
      return in_use(path, mount_point.empty()
                              ? "locked by another program, or by a mount that is not visible here"
                              : "mounted on " + mount_point);
    }
    case EINVAL:
    case ENOLCK:
    case ENOSYS:
    case EOPNOTSUPP:
      log_warning("{}: its filesystem has no locks ({}); make sure that nothing else uses it", path,
                  text_of_errno(err));
      return ok();
    default:
      return Error(errc_from_errno(err), fmt::format("{}: {}", path, text_of_errno(err)));
  }
}

Result<Claims> claim_layers(const Identity& what, const std::string& path, bool read_only) {
  Machine machine;
  Claims claims;
  for (const StorageLayer& layer : what.layers) {
    if (!layer.id.is_block_device && machine.is_swap_file(layer)) {
      return in_use(path, "used for swap");
    }
    if (layer.reached != StorageLayer::Reached::by_loop) continue;
    if (layer.id.is_block_device) {
      if (!layer.is_exact) continue;
      TRY(auto fd, open_exclusively(layer.id.device, path));
      if (fd) claims.push_back(std::move(fd));
      continue;
    }
    // Several devices of a device mapper share what lies below them.
    const bool is_shared = read_only || !layer.is_exact;
    Descriptor fd = open_file(layer, is_shared);
    if (!fd) continue;
    TRY(lock_range(fd.get(), layer, what, path, is_shared));
    claims.push_back(std::move(fd));
  }
  TRY(check_loop_devices(machine, what, path));
  return claims;
}

}  // namespace moltfs::alloc
