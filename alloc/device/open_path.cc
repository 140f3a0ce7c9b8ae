// SPDX-License-Identifier: MIT
// Choosing between the kernel's walk and ours.
#include "alloc/device/open_path.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <atomic>

#include "alloc/device/mountinfo.h"
#include "alloc/device/path_walk.h"

namespace moltfs::alloc {
namespace {

std::atomic<dev_t> served{0};
DevicesOfMoltfs devices_of_moltfs;  // does not change once `served` is set

}  // namespace

Error lies_on_served(const std::string& path) {
  return Error(Errc::bad_target,
               fmt::format("{}: lies on this mount, or on something that is stored there", path));
}

dev_t served_filesystem() {
  return served;
}

std::vector<std::string> devices_of_other_moltfs(const std::string& mountpoint) {
  return served != 0 && devices_of_moltfs ? devices_of_moltfs(mountpoint)
                                          : std::vector<std::string>();
}

std::string served_attribute() {
  const dev_t number = served;
  return fmt::format("{}:{}", major(number), minor(number));
}

bool has_served_attribute(const std::string& path) {
  const auto directory = open_path(path);
  if (!directory) return false;
  char value[64];
  const std::string name = fmt::format("/proc/self/fd/{}", directory.value().get());
  const ssize_t length = getxattr(name.c_str(), kServedAttribute, value, sizeof value);
  return length > 0 && std::string_view(value, static_cast<size_t>(length)) == served_attribute();
}

void set_served_filesystem(std::string_view device_number, DevicesOfMoltfs devices) {
  devices_of_moltfs = std::move(devices);
  served = device_number_of(device_number);
}

Result<Descriptor> open_path(const std::string& path) {
  int err = 0;
  Descriptor fd;
  if (served == 0) {
    fd = Descriptor(::open(path.c_str(), O_PATH | O_CLOEXEC));
    err = errno;
  } else {
    PathWalk walk(served);
    fd = walk.open(path);
    if (walk.met_served()) return lies_on_served(path);
    err = walk.error();
  }
  if (!fd) {
    return Error(errc_from_errno(err), fmt::format("{}: {}", path, text_of_errno(err)));
  }
  return fd;
}

}  // namespace moltfs::alloc
