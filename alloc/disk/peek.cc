// SPDX-License-Identifier: MIT
// Opening a device shared, and reading its superblock.
#include "alloc/disk/peek.h"

namespace moltfs::alloc {

Result<std::shared_ptr<Device>> open_shared(DeviceOpener& opener, const std::string& path) {
  DeviceOpener::Options options;
  options.read_only = true;
  options.exclusive = false;
  return opener.open(path, options);
}

Result<Superblock> peek_superblock(DeviceOpener& opener, const std::string& path) {
  TRY(const auto device, open_shared(opener, path));
  return read_superblock(opener.engine(), *device);
}

}  // namespace moltfs::alloc
