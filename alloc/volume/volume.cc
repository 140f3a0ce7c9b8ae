// SPDX-License-Identifier: MIT
// Volume: its running state, the switching of maps, and what is only passed on.
#include "alloc/volume/volume.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/disk/format.h"
#include "alloc/volume/volume_impl.h"

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

/// `label` as it can be recorded.
std::string recordable_label(const std::string& label) {
  return label.substr(0, std::min(label.find('\0'), kMaxLabelBytes));
}

}  // namespace

Volume::Impl::Impl(Runtime& the_runtime, DeviceOpener& the_opener, bool is_read_only,
                   Superblock superblock, std::vector<DeviceEntry> the_entries,
                   Map::Devices devices, ChunkList chunks)
    : runtime(the_runtime),
      opener(the_opener),
      engine(the_opener.engine()),
      read_only(is_read_only),
      mapper(the_runtime, first_map(std::move(chunks), std::move(devices))),
      space(the_runtime, mapper, geometry_of(superblock, the_entries), superblock.next_logical),
      window(the_runtime),
      delayed(the_runtime),
      log_id(the_runtime.random() | 1),
      durable(std::move(superblock)),
      label(recordable_label(durable.label)),
      entries(std::move(the_entries)),
      pending_swap(durable.pending_swap) {}

Space::Sealed Volume::Impl::seal(Generation closing) {
  Space::Sealed sealed = space.seal(closing);
  if (CommitHook* the_hook = hook()) the_hook->on_seal(closing);
  std::lock_guard lock(mutex);
  if (swap_request && !swap_request->sealed) swap_request->sealed = closing;
  sealed.swaps = swap_request.has_value();
  return sealed;
}

void Volume::Impl::arm(DeviceId source, std::shared_ptr<Device> target,
                       std::shared_ptr<const DuplicationRule> rule) {
  auto devices = mapper.current()->shared_devices();
  auto device = devices->find(source);
  ASSERT(device != devices->end());
  // Before the map: a chunk that is made under it must fit both.
  space.set_device_end(
      source, round_down(std::min(device->second->size_bytes(), target->size_bytes()), kBlockSize));
  write_delayed();  // what is written now need not be duplicated, and copied once more
  duplicated_bytes = 0;
  const Duplication duplication{source, std::move(target), std::move(rule)};
  mapper.update([&](const Map& map) {
    return std::make_shared<const Map>(map.shared_chunks(), map.shared_devices(), duplication);
  });
  mapper.drain();
}

void Volume::Impl::disarm_soon() {
  window.spoil();
  std::optional<DeviceId> source;
  mapper.update([&](const Map& map) {
    if (map.duplication()) source = map.duplication()->source;
    return std::make_shared<const Map>(map.shared_chunks(), map.shared_devices(), std::nullopt);
  });
  if (source) space.set_device_end(*source, 0);
}

void Volume::Impl::put_target_in_place(const DeviceEntry& entry, std::shared_ptr<Device> target) {
  mapper.update([&](const Map& map) {
    auto devices = std::make_shared<Map::Devices>(map.devices());
    (*devices)[entry.devid] = target;
    return std::make_shared<const Map>(map.shared_chunks(), std::move(devices), std::nullopt);
  });
  space.set_device_end(entry.devid, entry.size_bytes);
  std::lock_guard lock(mutex);
  for (DeviceEntry& e : entries) {
    if (e.devid == entry.devid) e = entry;
  }
  pending_swap.reset();
}

std::optional<SwapRequest> Volume::Impl::take_swap_request(Generation closing) {
  std::lock_guard lock(mutex);
  if (!swap_request || swap_request->sealed != closing) return std::nullopt;
  return std::exchange(swap_request, std::nullopt);
}

void Volume::Impl::report_target_fault(IoOp op, const Error& error) {
  if (CommitHook* the_hook = hook()) the_hook->target_fault(op, error);
}

Superblock Volume::Impl::next_superblock() const {
  std::lock_guard lock(mutex);
  Superblock next = durable;
  next.incompatible_features |= format::kFeatureFsyncLog;
  next.log_id = log_id;
  next.label = label;
  next.devices = entries;
  next.pending_swap = pending_swap;
  next.predecessor.reset();
  next.successor.reset();
  return next;
}

// ---- Volume

Volume::Volume(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Volume::~Volume() = default;

Runtime& Volume::runtime() {
  return impl_->runtime;
}
DeviceOpener& Volume::opener() {
  return impl_->opener;
}
IoEngine& Volume::engine() {
  return impl_->engine;
}
Mapper& Volume::mapper() {
  return impl_->mapper;
}
Space& Volume::space() {
  return impl_->space;
}
bool Volume::read_only() const {
  return impl_->read_only;
}

Superblock Volume::superblock() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->durable;
}

std::vector<DeviceEntry> Volume::devices() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->entries;
}

std::shared_ptr<Device> Volume::device(DeviceId id) const {
  auto map = impl_->mapper.current();
  auto found = map->devices().find(id);
  return found == map->devices().end() ? nullptr : found->second;
}

void Volume::set_label(std::string label) {
  std::lock_guard lock(impl_->mutex);
  impl_->label = recordable_label(label);
}

void Volume::set_hook(CommitHook* hook) {
  impl_->hook_ = hook;
}

Result<void> Volume::write(const MapGuard& guard, std::span<const LogicalWrite> writes) {
  return impl_->write(guard, writes);
}

Result<void> Volume::write_later(const MapGuard& guard, std::span<const LogicalWrite> writes,
                                 uint64_t owner) {
  return impl_->write_later(guard, writes, owner);
}

std::optional<Error> Volume::take_write_failure(std::optional<uint64_t> owner) {
  return impl_->take_write_failure(owner);
}

Result<void> Volume::read(const MapGuard& guard, LogicalOffset at, Bytes into, unsigned copy) {
  return impl_->read(guard, at, into, copy);
}
void Volume::read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy) {
  impl_->read_batch(guard, reads, copy);
}

unsigned Volume::copies_at(const MapGuard& guard, LogicalOffset at) const {
  const Chunk* chunk = guard.map().chunk_of({at, 1});
  return chunk == nullptr ? 0 : chunk->copies;
}

Result<void> Volume::repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes,
                            unsigned copy) {
  return impl_->repair(guard, at, bytes, copy);
}

Space::Sealed Volume::seal(Generation closing) {
  return impl_->seal(closing);
}

const FoundLog& Volume::found_log() const {
  return impl_->found_log;
}

Generation Volume::first_generation() const {
  const Generation durable = superblock().generation;
  return durable + (impl_->found_log.batches.empty() ? 1 : kReplayStep);
}

std::optional<LogChain> Volume::log_on(Generation base) const {
  return impl_->log_on(base);
}

Result<bool> Volume::write_log(std::span<const LogWrite> writes, bool flush_first) {
  return impl_->write_log(writes, flush_first);
}

uint64_t Volume::commit_overhead_bytes() const {
  return impl_->overhead_bytes;
}
uint64_t Volume::target_overhead_bytes() const {
  return impl_->target_overhead_bytes;
}
uint64_t Volume::duplicated_bytes() const {
  return impl_->duplicated_bytes;
}

void Volume::arm(DeviceId source, std::shared_ptr<Device> target,
                 std::shared_ptr<const DuplicationRule> rule) {
  impl_->arm(source, std::move(target), std::move(rule));
}

void Volume::disarm() {
  impl_->disarm_soon();
  impl_->mapper.drain();
}

void Volume::disarm_soon() {
  impl_->disarm_soon();
}

void Volume::set_pending_swap(std::optional<Superblock::Succession> swap) {
  if (swap) swap->path = recordable_path(swap->path);
  std::lock_guard lock(impl_->mutex);
  impl_->pending_swap = std::move(swap);
}

void Volume::request_swap(DeviceId source, DeviceEntry target,
                          std::function<void(const SwapOutcome&)> outcome) {
  target.devid = source;
  target.path = recordable_path(target.path);
  std::lock_guard lock(impl_->mutex);
  impl_->swap_request = SwapRequest{source, std::move(target), std::move(outcome), std::nullopt};
}

bool Volume::withdraw_swap() {
  std::optional<SwapRequest> request;  // destroyed after the lock
  std::lock_guard lock(impl_->mutex);
  request.swap(impl_->swap_request);
  return request.has_value();
}

}  // namespace moltfs::alloc
