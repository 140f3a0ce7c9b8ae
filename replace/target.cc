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

/// `device` bears the uuid of `entry`, which is out. It may take its own place, by force.
Result<void> check_out(const DeviceEntry& source, const DeviceEntry& entry, const std::string& path,
                       bool force) {
  const uint64_t devid = entry.devid.value;
  if (entry.devid != source.devid) {
    return Error(Errc::bad_target,
                 fmt::format("{}: is devid {} of this volume, which is out", path, devid));
  }
  if (force) return ok();
  return Error(
      Errc::bad_target,
      fmt::format("{}: is devid {} itself, which is out: \"moltfs device online {}\" brings "
                  "it back and copies only what it missed; --force overwrites it",
                  path, devid, devid));
}

/// Error: bad_target if `device` bears the uuid of a member. It is that member by a name that does
/// not show it (two paths of a storage network), or a copy that must not be confused with it.
Result<void> check_no_member_uuid(Volume& volume, const DeviceEntry& source, Device& device,
                                  const std::string& path, bool force) {
  const auto superblock = alloc::read_superblock(volume.engine(), device);
  if (!superblock || superblock.value().volume != volume.superblock().volume ||
      superblock.value().role == DeviceRole::replaced) {
    return ok();
  }
  for (const DeviceEntry& entry : volume.devices()) {
    if (entry.uuid != superblock.value().device) continue;
    if (entry.out) return check_out(source, entry, path, force);
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

// ---- A device that comes back

/// What messages call a device of the table.
std::string name_of(const DeviceEntry& entry) {
  return fmt::format("devid {} (uuid {}, {})", entry.devid.value, entry.uuid.to_string(),
                     human_size(entry.size_bytes));
}

Result<DeviceEntry> entry_of(const Volume& volume, const Uuid& uuid) {
  for (const DeviceEntry& entry : volume.devices()) {
    if (entry.uuid == uuid) return entry;
  }
  return Error(Errc::not_found);
}

/// R9: the device is as it was left, or was made a target during this absence. Nothing if what it
/// holds can be used, else why not.
std::optional<Error> why_unusable(const DeviceEntry& entry, const Superblock& superblock,
                                  const std::string& path) {
  const alloc::Absence& absence = *entry.out;
  const auto cannot = [&](const std::string& why) {
    return Error(Errc::bad_target,
                 fmt::format("{}: {} {}; what it holds cannot be used. --force overwrites it and "
                             "copies everything",
                             path, name_of(entry), why));
  };
  if (superblock.role == DeviceRole::target) {
    for (const DeviceEntry& theirs : superblock.devices) {
      if (theirs.uuid == entry.uuid && theirs.out == entry.out) return std::nullopt;
    }
    return cannot("was coming back to an earlier state of the volume");
  }
  if (absence.left(superblock.generation, superblock.log_id)) return std::nullopt;
  const bool is_older = superblock.generation < absence.whole_until;
  return cannot(fmt::format(
      "has generation {}, but was left with {}: it {}", superblock.generation.value,
      absence.whole_until.value,
      is_older ? "was put back from an older copy" : "has been written to without this volume"));
}

/// Opens `path`, and checks that it is a device that is out.
Result<ReturningDevice> open_returning(Volume& volume, alloc::DeviceOpener& opener,
                                       const std::string& path) {
  auto opened = opener.open(path, {});
  if (!opened) {
    const Error& error = opened.error();
    return error.detail ? error : Error(error.code, fmt::format("{}: {}", path, error.message()));
  }
  ReturningDevice returning;
  returning.device = std::move(opened.value());
  Device& device = *returning.device;
  if (device.read_only()) {
    return Error(Errc::device_read_only, fmt::format("{}: is read-only", path));
  }
  TRY(alloc::check_device_path(device.path()));
  const auto superblock = alloc::read_superblock(volume.engine(), device);
  const auto is_not_ours = [&](std::string_view what) {
    return Error(Errc::bad_target,
                 fmt::format("{}: {}; \"moltfs replace start\" puts it in the place of a device "
                             "that is out",
                             path, what));
  };
  if (!superblock) return is_not_ours("holds no device of this volume");
  const Superblock& seen = superblock.value();
  if (seen.volume != volume.superblock().volume) {
    return is_not_ours(fmt::format("is a device of volume {}", seen.volume.to_string()));
  }
  auto entry = entry_of(volume, seen.device);
  if (!entry || seen.role == DeviceRole::replaced) {
    return is_not_ours(
        fmt::format("has uuid {}, which is no longer in this volume", seen.device.to_string()));
  }
  returning.entry = std::move(entry.value());
  if (!returning.entry.out) {
    return Error(Errc::bad_target,
                 fmt::format("{}: has the uuid of {} of this volume, which is not out: it is that "
                             "device under another name, or a copy of it",
                             path, name_of(returning.entry)));
  }
  TRY(check_size(volume, returning.entry, path, device.size_bytes()));
  returning.unusable = why_unusable(returning.entry, seen, path);
  return returning;
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
  TRY(check_no_member_uuid(volume, source, *checked.device, path, request.force));
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

Result<void> mark_returning(Volume& volume, const DeviceEntry& entry, Device& device) {
  const Superblock superblock =
      alloc::target_superblock(volume.superblock(), entry.devid, entry.uuid);
  TRY(alloc::write_superblock(volume.engine(), device, superblock));
  return alloc::verify_superblock(volume.engine(), device, superblock);
}

Result<ReturningDevice> find_returning(Volume& volume, const Engine::OnlineRequest& request,
                                       const std::vector<std::string>& hints) {
  if (!request.path.empty()) {
    const bool is_ours = request.opener == nullptr;
    return open_returning(volume, is_ours ? volume.opener() : *request.opener, request.path);
  }
  TRY(const auto entry, find_source(volume, request.device));
  if (!entry.out) {
    return Error(Errc::invalid_argument,
                 fmt::format("{} ({}) is not out", name_of(entry), entry.path));
  }
  std::vector<std::string> paths = hints;
  if (!entry.path.empty()) paths.insert(paths.begin(), entry.path);
  std::optional<Error> why;
  const auto try_path = [&](const std::string& path) -> std::optional<ReturningDevice> {
    const auto seen = alloc::peek_superblock(volume.opener(), path);
    if (!seen || seen.value().volume != volume.superblock().volume ||
        seen.value().device != entry.uuid) {
      return std::nullopt;
    }
    auto found = open_returning(volume, volume.opener(), path);
    if (found) return std::move(found.value());
    if (!why) why = found.error();
    return std::nullopt;
  };
  for (const std::string& path : paths) {
    if (auto found = try_path(path)) return std::move(*found);
  }
  for (const std::string& path : volume.opener().candidates()) {
    if (std::find(paths.begin(), paths.end(), path) != paths.end()) continue;
    if (auto found = try_path(path)) return std::move(*found);
  }
  if (why) return *why;
  return Error(Errc::not_found,
               fmt::format("{}, last seen as {}, is not found: name its path, or replace it with "
                           "\"moltfs replace start {}\"",
                           name_of(entry), entry.path.empty() ? "(path not recorded)" : entry.path,
                           entry.devid.value));
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
