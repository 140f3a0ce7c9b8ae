// SPDX-License-Identifier: MIT
// Making a filesystem: everything is checked before anything is overwritten.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/device/same_storage.h"
#include "alloc/device/wipe.h"
#include "alloc/disk/volume_settings.h"
#include "fs/mount/mount.h"

namespace moltfs::fs {
namespace {

using Devices = std::vector<std::shared_ptr<alloc::Device>>;

Result<Devices> open_devices(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  if (paths.empty()) return Error(Errc::invalid_argument, "no device was given");
  Devices devices;
  for (const std::string& path : paths) {
    if (std::count(paths.begin(), paths.end(), path) > 1) {
      return Error(Errc::invalid_argument, fmt::format("{} is given twice", path));
    }
    for (const auto& other : devices) {
      if (!alloc::is_same_storage(*other, path)) continue;
      return Error(Errc::invalid_argument,
                   fmt::format("{} and {} are one device", other->path(), path));
    }
    TRY(auto device, opener.open(path, {}));
    if (paths.size() > 1) {  // members find each other by their recorded paths
      TRY(alloc::check_device_path(device->path()));
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace

Result<void> make_filesystem(Runtime& runtime, alloc::DeviceOpener& opener,
                             const std::vector<std::string>& paths, const MkfsOptions& options) {
  TRY(auto devices, open_devices(opener, paths));
  std::vector<bool> has_signature;
  for (const auto& device : devices) {
    TRY(auto signature, opener.signature(*device));
    has_signature.push_back(signature.has_value());
    if (!signature || options.force) continue;
    return Error(Errc::foreign_signature,
                 fmt::format("{} holds {}; --force overwrites it", device->path(), *signature));
  }
  TRY(auto volume, alloc::Volume::create(runtime, opener, devices, options.volume));

  // From here on the old content is lost. Its superblocks are wiped first, durably and on all
  // devices, so that after a power cut the rest is not taken for the old volume.
  alloc::IoEngine& engine = opener.engine();
  for (const auto& device : devices) {
    TRY(alloc::wipe_superblocks(engine, *device));
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    alloc::Device& device = *devices[i];
    const uint64_t first = alloc::kSuperblockOffsets[0];
    const uint64_t end = round_down(device.size_bytes(), kBlockSize);
    TRY(engine.discard(device, first, end - first));
    if (has_signature[i]) {
      TRY(alloc::wipe_signatures(engine, device));
    }
  }
  FsCounters counters;
  counters.hash_seed = runtime.random();
  TRY(auto transactions, Transactions::create(*volume, {}, counters));
  TRY(auto filesystem, Filesystem::create(runtime, *transactions, {options.uid, options.gid, 022}));
  TRY(transactions->commit(true));
  return ok();
}

}  // namespace moltfs::fs
