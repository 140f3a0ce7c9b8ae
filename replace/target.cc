// SPDX-License-Identifier: MIT
// The checks before arming, and the target's superblock.
#include "replace/target.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "alloc/base/uuid.h"
#include "alloc/device/same_storage.h"
#include "alloc/device/wipe.h"
#include "alloc/disk/format.h"
#include "alloc/disk/log_batch.h"
#include "alloc/disk/peek.h"
#include "alloc/disk/volume_settings.h"

namespace moltfs::replace {

namespace {

using alloc::Device;
using alloc::DeviceEntry;
using alloc::DeviceRole;
using alloc::Superblock;
using alloc::Volume;

/// A uuid is only a name that anybody can write on a device. A target also has the device table of
/// the volume, which does not change before the swap, and a generation of the volume's past, or that
/// of a commit that a crash has kept from the members.
bool is_target(const Volume& volume, const DeviceEntry& target, const Superblock& superblock) {
  const Superblock ours = volume.superblock();
  const auto is_same = [](const DeviceEntry& a, const DeviceEntry& b) {
    return a.devid == b.devid && a.uuid == b.uuid;
  };
  return superblock.role == DeviceRole::target && superblock.device == target.uuid &&
         superblock.volume == ours.volume && superblock.devid == target.devid &&
         superblock.generation <= ours.generation + alloc::kReplayStep &&
         std::equal(ours.devices.begin(), ours.devices.end(), superblock.devices.begin(),
                    superblock.devices.end(), is_same);
}

Error is_member(const std::string& path, const DeviceEntry& source, DeviceId devid) {
  if (devid == source.devid) {
    return Error(Errc::bad_target,
                 fmt::format("{}: is devid {}, the source itself", path, devid.value));
  }
  return Error(Errc::bad_target,
               fmt::format("{}: is a member of this volume already (devid {})", path, devid.value));
}

/// Error: bad_target if `what`, a path or an open device, is bytes of a device of this volume.
template <class PathOrDevice>
Result<void> check_no_member(const Volume& volume, const DeviceEntry& source,
                             const PathOrDevice& what, const std::string& path) {
  for (const DeviceEntry& entry : volume.devices()) {
    const auto device = volume.device(entry.devid);
    if (device && alloc::is_same_storage(*device, what)) {
      return is_member(path, source, entry.devid);
    }
  }
  return ok();
}

/// Error: bad_target if `device` bears the uuid of a member. It is that member by a name that does
/// not show it (two paths of a storage network), or a copy that must not be confused with it.
Result<void> check_no_member_uuid(Volume& volume, Device& device, const std::string& path) {
  const auto superblock = alloc::read_superblock(volume.engine(), device);
  if (!superblock || superblock.value().volume != volume.superblock().volume ||
      superblock.value().role != DeviceRole::member) {
    return ok();
  }
  for (const DeviceEntry& entry : volume.devices()) {
    if (entry.uuid != superblock.value().device) continue;
    return Error(Errc::bad_target,
                 fmt::format("{}: has the uuid of devid {} of this volume: it is that device under "
                             "another name, or a copy of it",
                             path, entry.devid.value));
  }
  return ok();
}

/// What moltfs has on `device`; empty if it may be overwritten without --force.
Result<std::string> moltfs_on(Volume& volume, Device& device) {
  auto found = alloc::read_superblock(volume.engine(), device);
  if (!found) {
    if (found.error() == Errc::not_found) return std::string();
    return std::string("a damaged moltfs volume");
  }
  const Superblock& superblock = found.value();
  const std::string name = superblock.label.empty() ? superblock.volume.to_string()
                                                    : fmt::format("\"{}\"", superblock.label);
  switch (superblock.role) {
    case DeviceRole::replaced:
      if ((superblock.compatible_features & alloc::format::kFeatureHasLostBlocks) == 0) {
        return std::string();
      }
      return fmt::format(
          "the old device of a replace of moltfs volume {}, with blocks that could "
          "not be read from it and that no other device has",
          name);
    case DeviceRole::target:
      return fmt::format("the unfinished target of a replace of moltfs volume {}", name);
    case DeviceRole::member:
      break;
  }
  return fmt::format("a device of moltfs volume {}", name);
}

/// Best effort. Leaves out what lies under the source's chunks, because the copy will write it.
void discard_rest(Volume& volume, DeviceId source, Device& device) {
  const auto map = volume.mapper().current();
  std::vector<alloc::IoRequest> requests;
  uint64_t at = 0;
  const auto discard_to = [&](uint64_t end) {
    if (at < end) requests.push_back(alloc::IoRequest::make_discard(&device, at, end - at));
  };
  for (const alloc::DeviceExtent& extent : alloc::device_extents(map->chunks(), source)) {
    discard_to(extent.range.start.value);
    at = extent.range.end().value;
  }
  discard_to(round_down(device.size_bytes(), kBlockSize));
  volume.engine().run(requests);
  for (const alloc::IoRequest& request : requests) {
    if (request.result) continue;
    return log_info("{}: not discarded: {}", device.path(), request.result.error().message());
  }
}

Result<FoundTarget> open_if_target(Volume& volume, const DeviceEntry& target,
                                   const std::string& path) {
  TRY(auto seen, alloc::peek_superblock(volume.opener(), path));
  if (!is_target(volume, target, seen)) return Error(Errc::not_found);
  TRY(auto device, volume.opener().open(path, {}));
  TRY(auto superblock, alloc::read_superblock(volume.engine(), *device));
  if (!is_target(volume, target, superblock)) return Error(Errc::not_found);
  const bool follows = (superblock.compatible_features & alloc::format::kFeatureTargetFollows) != 0;
  return FoundTarget{std::move(device), superblock.generation, follows};
}

}  // namespace

Result<DeviceEntry> find_source(const Volume& volume, const std::string& name) {
  const auto uuid = Uuid::parse(name);
  uint64_t devid = 0;
  const char* end = name.data() + name.size();
  const auto [parsed, error] = std::from_chars(name.data(), end, devid);
  const bool is_devid = error == std::errc() && parsed == end;
  for (const DeviceEntry& entry : volume.devices()) {
    const auto device = volume.device(entry.devid);
    const bool same_path = entry.path == name || (device != nullptr && device->path() == name);
    const bool meant = is_devid ? entry.devid.value == devid : same_path || uuid == entry.uuid;
    if (meant) return entry;
  }
  for (const DeviceEntry& entry : volume.devices()) {
    const auto device = volume.device(entry.devid);
    const bool is_path = !is_devid && name.find('/') != std::string::npos;
    if (is_path && device != nullptr && alloc::is_same_storage(*device, name)) return entry;
  }
  return Error(Errc::not_found,
               is_devid ? fmt::format("this volume has no devid {}", devid)
                        : fmt::format("{}: is not a device of this volume", name.substr(0, 512)));
}

Result<void> check_size(const Volume& volume, const DeviceEntry& source, const std::string& path,
                        uint64_t size_bytes) {
  const uint64_t needed = std::max(
      const_cast<Volume&>(volume).space().last_extent_end(source.devid), alloc::kMinDeviceBytes);
  if (size_bytes >= needed) return ok();
  std::string holds = human_size(size_bytes), needs = human_size(needed);
  if (holds == needs) {  // a few sectors
    holds = fmt::format("{} bytes", size_bytes);
    needs = fmt::format("{} bytes", needed);
  }
  return Error(Errc::bad_target,
               fmt::format("{}: target holds {}, the allocated chunks of devid {} need {}", path,
                           holds, source.devid.value, needs));
}

Result<CheckedTarget> check_target(Volume& volume, const DeviceEntry& source,
                                   const Engine::StartRequest& request) {
  const std::string& path = request.target;
  CheckedTarget checked;
  // What a path means to a caller, only the request's opener knows.
  const bool is_ours = request.opener == nullptr;
  if (is_ours) {
    TRY(check_no_member(volume, source, path, path));
  }
  auto opened = (is_ours ? volume.opener() : *request.opener).open(path, {});
  if (!opened) {
    const Error& error = opened.error();
    if (error == Errc::device_in_use) {
      TRY(check_no_member(volume, source, path, path));  // says by whom
    }
    if (error.detail) return error;
    return Error(error.code, fmt::format("{}: {}", path, error.message()));
  }
  checked.device = std::move(opened.value());
  if (checked.device->read_only()) {
    return Error(Errc::device_read_only, fmt::format("{}: is read-only", path));
  }
  TRY(alloc::check_device_path(checked.device->path()));
  TRY(check_no_member(volume, source, *checked.device, path));
  TRY(check_no_member_uuid(volume, *checked.device, path));
  TRY(check_size(volume, source, path, checked.device->size_bytes()));
  TRY(auto found, volume.opener().signature(*checked.device));
  TRY(auto ours, moltfs_on(volume, *checked.device));
  std::string holds = ours;
  if (holds.empty() && found && *found != "moltfs") holds = *found;
  if (holds.empty()) return checked;
  if (!request.force) {
    return Error(Errc::foreign_signature,
                 fmt::format("{}: holds {}; --force overwrites it", path, holds));
  }
  checked.must_wipe = true;
  return checked;
}

Result<void> prepare_target(Volume& volume, const DeviceEntry& target,
                            const CheckedTarget& checked) {
  Device& device = *checked.device;
  // What is left of an older volume must not be mounted once the rest is being written over.
  TRY(alloc::wipe_superblocks(volume.engine(), device));
  if (device.can_discard()) discard_rest(volume, target.devid, device);
  if (checked.must_wipe) {
    TRY(alloc::wipe_signatures(volume.engine(), device));
  }
  const Superblock superblock =
      alloc::target_superblock(volume.superblock(), target.devid, target.uuid);
  TRY(alloc::write_superblock(volume.engine(), device, superblock));
  return alloc::verify_superblock(volume.engine(), device, superblock);
}

Result<FoundTarget> find_target(Volume& volume, const DeviceEntry& target,
                                const std::vector<std::string>& hints, bool search) {
  Error why(Errc::not_found);
  auto try_path = [&](const std::string& path) -> std::optional<FoundTarget> {
    auto found = open_if_target(volume, target, path);
    if (found) return std::move(found.value());
    // The most useful error: found, but it cannot be opened.
    if (why == Errc::not_found) why = found.error();
    return std::nullopt;
  };
  std::vector<std::string> paths = hints;
  if (!target.path.empty()) paths.insert(paths.begin(), target.path);
  for (const std::string& path : paths) {
    if (auto found = try_path(path)) return std::move(*found);
  }
  const Error where_it_was = why;
  if (search) {
    for (const std::string& path : volume.opener().candidates()) {
      if (std::find(paths.begin(), paths.end(), path) != paths.end()) continue;
      if (auto found = try_path(path)) return std::move(*found);
    }
  }
  const std::string reason = where_it_was == Errc::not_found ? "not found" : where_it_was.message();
  return Error(where_it_was.code, fmt::format("the target {} (uuid {}): {}", target.path,
                                              target.uuid.to_string(), reason));
}

}  // namespace moltfs::replace
