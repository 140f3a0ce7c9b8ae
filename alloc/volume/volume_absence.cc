// SPDX-License-Identifier: MIT
// Volume: putting out a device that fails, so that the volume goes on without it (volume.h).
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "alloc/base/uuid.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {

namespace {

/// True if the error says that the device did not do what it should.
bool is_fault_of_device(const Error& error) {
  return error != Errc::device_full && error != Errc::out_of_memory;
}

}  // namespace

/// Puts out the devices that have failed. Error: the first that does not put its device out.
Result<void> Volume::survive(std::span<const Fault> faults) {
  Result<void> result = ok();
  for (const Fault& fault : faults) {
    const bool survived = is_fault_of_device(fault.error) && superblock().generation.value > 0 &&
                          put_out(fault.devid, fault.device, fault.error.message()).has_value();
    if (!survived && result) result = fault.error;
  }
  return result;
}

Result<void> Volume::put_out(DeviceId devid, std::string_view why) {
  return put_out(devid, nullptr, why);
}

/// `failed`: the device that has failed. If it is not the device of `devid` any more, nothing
/// happens. Null: the one that it has now.
Result<void> Volume::put_out(DeviceId devid, const Device* failed, std::string_view why) {
  if (read_only_) return Error(Errc::read_only);
  // One at a time: what the decision depends on must not change before it is carried out.
  std::lock_guard one(out_mutex_);
  const auto device = this->device(devid);
  DeviceEntry entry;
  {
    std::lock_guard lock(mutex_);
    const DeviceEntry* found = entry_of(devid);
    if (found == nullptr) {
      return Error(Errc::not_found, fmt::format("devid {} is not in the volume", devid.value));
    }
    entry = *found;
  }
  if (!device || (failed != nullptr && failed != device.get())) return ok();

  // First: no chunk may be made that has its only copy there.
  space_.set_device_in(devid, false);
  size_t lost = 0;
  bool is_last = false;
  mapper_.update([&](const Map& map) {
    auto devices = std::make_shared<Map::Devices>(map.devices());
    lost = map.chunks_lost(devid);
    is_last = devices->size() == 1;
    if (lost == 0 && !is_last) devices->erase(devid);
    return std::make_shared<const Map>(map.shared_chunks(), std::move(devices), map.duplication());
  });
  if (lost > 0 || is_last) {
    space_.set_device_in(devid, true);
    const std::string why_not =
        lost > 0 ? fmt::format("{} of the chunks have no copy on another device", lost)
                 : "no other device of the volume is in";
    return Error(Errc::invalid_argument,
                 fmt::format("{} (devid {}, uuid {}) cannot be done without: {}", device->path(),
                             devid.value, entry.uuid.to_string(), why_not));
  }
  {
    std::lock_guard lock(mutex_);
    entry_of(devid)->out = Absence{durable_.generation, durable_.log_id, log_id_};
  }
  log_error("{} (devid {}, uuid {}, {}) is out: {}; the volume is degraded and goes on without it",
            device->path(), devid.value, entry.uuid.to_string(), human_size(entry.size_bytes), why);
  return ok();
}

/// True if the durable superblock says of every device that is out that it is.
bool Volume::absences_are_durable() const {
  std::lock_guard lock(mutex_);
  return std::all_of(entries_.begin(), entries_.end(), [this](const DeviceEntry& entry) {
    const auto same = [&](const DeviceEntry& e) {
      return e.devid == entry.devid && e.uuid == entry.uuid && e.out == entry.out;
    };
    return !entry.out || std::any_of(durable_.devices.begin(), durable_.devices.end(), same);
  });
}

}  // namespace moltfs::alloc
