// SPDX-License-Identifier: MIT
// Volume: its running state, and the maps of a replace.
#include "alloc/volume/volume.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/disk/format.h"

namespace moltfs::alloc {

namespace {

std::shared_ptr<const Map> first_map(ChunkList chunks, Map::Devices devices) {
  return std::make_shared<const Map>(std::make_shared<const ChunkList>(std::move(chunks)),
                                     std::make_shared<const Map::Devices>(std::move(devices)),
                                     std::nullopt);
}

Space::Geometry geometry_of(const Superblock& superblock, const std::vector<DeviceEntry>& entries) {
  Space::Geometry geometry;
  geometry.chunk_size = superblock.chunk_size;
  geometry.data_profile = superblock.data_profile;
  geometry.metadata_profile = superblock.metadata_profile;
  for (const DeviceEntry& entry : entries) geometry.device_ends[entry.devid] = entry.size_bytes;
  return geometry;
}

}  // namespace

Volume::Volume(Runtime& runtime, DeviceOpener& opener, bool read_only, Superblock superblock,
               std::vector<DeviceEntry> entries, Map::Devices devices, ChunkList chunks)
    : runtime_(runtime),
      opener_(opener),
      engine_(opener.engine()),
      read_only_(read_only),
      mapper_(runtime, first_map(std::move(chunks), std::move(devices))),
      space_(runtime, mapper_, geometry_of(superblock, entries), superblock.next_logical),
      window_(runtime),
      buffer_(runtime),
      log_id_(runtime.random() | 1),
      log_device_count_(log_devices(superblock.data_profile, superblock.metadata_profile)),
      durable_(std::move(superblock)),
      label_(durable_.label),
      entries_(std::move(entries)),
      pending_swap_(durable_.pending_swap) {
  for (DeviceEntry& entry : entries_) {
    if (entry.out && entry.out->drop_log_id == 0) entry.out->drop_log_id = log_id_;
  }
}

Error Volume::located(Error error, DeviceId device, uint64_t offset) {
  error.device = device;
  error.offset = offset;
  return error;
}

// ---- State

Superblock Volume::superblock() const {
  std::lock_guard lock(mutex_);
  return durable_;
}

std::vector<DeviceEntry> Volume::devices() const {
  std::lock_guard lock(mutex_);
  return entries_;
}

std::shared_ptr<Device> Volume::device(DeviceId id) const {
  const auto map = mapper_.current();
  const auto found = map->devices().find(id);
  return found == map->devices().end() ? nullptr : found->second;
}

DeviceEntry* Volume::entry_of(DeviceId devid) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const DeviceEntry& entry) { return entry.devid == devid; });
  return found == entries_.end() ? nullptr : &*found;
}

void Volume::set_label(const std::string& label) {
  std::lock_guard lock(mutex_);
  label_ = label.substr(0, std::min(label.find('\0'), kMaxLabelBytes));
}

/// The durable superblock with the running label, devices and pending swap. Everything else is set
/// by the commit.
Superblock Volume::next_superblock() const {
  std::lock_guard lock(mutex_);
  Superblock next = durable_;
  next.incompatible_features |= format::kFeatureFsyncLog;
  next.log_id = log_id_;
  next.label = label_;
  next.devices = entries_;
  next.pending_swap = pending_swap_;
  next.predecessor.reset();
  next.successor.reset();
  update_features(next);
  return next;
}

// ---- Duplication

void Volume::arm(DeviceId source, std::shared_ptr<Device> target,
                 std::shared_ptr<const DuplicationRule> rule, const Uuid& target_uuid) {
  {
    std::lock_guard lock(mutex_);
    target_uuid_ = target_uuid;
  }
  uint64_t size = target->size_bytes();
  {
    std::lock_guard lock(mutex_);
    if (const DeviceEntry* entry = entry_of(source)) size = std::min(size, entry->size_bytes);
  }
  // Before the map is published: a chunk that is made under it must fit both devices.
  space_.set_device_end(source, round_down(size, kBlockSize));
  // What is written before arming need not be duplicated and then copied again.
  (void)drain_buffer();
  duplicated_bytes_ = 0;
  const Duplication duplication{source, std::move(target), std::move(rule)};
  mapper_.update([&](const Map& map) {
    return std::make_shared<const Map>(map.shared_chunks(), map.shared_devices(), duplication);
  });
  mapper_.drain();
}

void Volume::disarm() {
  disarm_soon();
  mapper_.drain();
}

void Volume::disarm_soon() {
  window_.spoil();
  std::optional<DeviceId> source;
  mapper_.update([&](const Map& map) {
    if (map.duplication()) source = map.duplication()->source;
    return std::make_shared<const Map>(map.shared_chunks(), map.shared_devices(), std::nullopt);
  });
  if (source) space_.set_device_end(*source, 0);
}

/// Tells the hook. REQUIRES: no lock is held, no window is open.
void Volume::report_target_fault(IoOp op, const Error& error) {
  if (CommitHook* hook = hook_) hook->target_fault(op, error);
}

// ---- The swap

void Volume::set_pending_swap(std::optional<Superblock::Succession> swap) {
  if (swap) swap->path = recordable_path(swap->path);
  std::lock_guard lock(mutex_);
  pending_swap_ = std::move(swap);
}

void Volume::request_swap(DeviceId source, DeviceEntry target,
                          std::function<void(const SwapOutcome&)> outcome, bool keep_source) {
  target.devid = source;
  target.path = recordable_path(target.path);
  std::lock_guard lock(mutex_);
  swap_request_ =
      SwapRequest{source, std::move(target), std::move(outcome), keep_source, std::nullopt};
}

bool Volume::withdraw_swap() {
  std::optional<SwapRequest> request;  // destroyed after the lock
  std::lock_guard lock(mutex_);
  request.swap(swap_request_);
  return request.has_value();
}

/// Takes the request that was sealed with `closing`, if there is one.
std::optional<SwapRequest> Volume::take_swap_request(Generation closing) {
  std::lock_guard lock(mutex_);
  if (!swap_request_ || swap_request_->sealed != closing) return std::nullopt;
  return std::exchange(swap_request_, std::nullopt);
}

/// Step c of a swap, after the window was closed.
void Volume::put_target_in_place(const DeviceEntry& entry, std::shared_ptr<Device> target) {
  // The source may fail at this moment: then either it is put out before, or nothing happens.
  std::lock_guard one(out_mutex_);
  mapper_.update([&](const Map& map) {
    auto devices = std::make_shared<Map::Devices>(map.devices());
    (*devices)[entry.devid] = target;
    return std::make_shared<const Map>(map.shared_chunks(), std::move(devices), std::nullopt);
  });
  space_.set_device_end(entry.devid, entry.size_bytes);
  space_.set_device_in(entry.devid, true);
  std::lock_guard lock(mutex_);
  if (DeviceEntry* place = entry_of(entry.devid)) *place = entry;
  pending_swap_.reset();
}

}  // namespace moltfs::alloc
