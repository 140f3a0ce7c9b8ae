// SPDX-License-Identifier: MIT
// The mapper: computing segments, and the epochs behind guards.
#include "alloc/space/map.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "alloc/base/assert.h"

namespace moltfs::alloc {
namespace {

/// Calls visit(column, offset in the stripe, length, offset in `range`) for each piece of `range`
/// that is contiguous both on its stripe and in the caller's buffer, ascending.
template <class Visit>
void for_each_piece(const Chunk& chunk, LogicalRange range, Visit visit) {
  const uint32_t columns = chunk.columns();
  const uint64_t first = range.start - chunk.start;
  if (columns == 1) {
    if (range.length > 0) visit(0u, first, range.length, uint64_t{0});
    return;
  }
  const uint64_t unit = chunk.stripe_unit;
  for (uint64_t done = 0; done < range.length;) {
    const uint64_t at = first + done;
    const uint64_t index = at / unit;
    const uint64_t length = std::min(unit - at % unit, range.length - done);
    visit(static_cast<uint32_t>(index % columns), index / columns * unit + at % unit, length, done);
    done += length;
  }
}

}  // namespace

Map::Map(std::shared_ptr<const ChunkList> chunks, std::shared_ptr<const Devices> devices,
         std::optional<Duplication> duplication)
    : chunks_(std::move(chunks)),
      devices_(std::move(devices)),
      duplication_(std::move(duplication)) {
  ASSERT(chunks_ && devices_);
  ASSERT(!duplication_ || (duplication_->target && duplication_->rule));
}

const Chunk* Map::chunk_of(LogicalRange range) const {
  const Chunk* chunk = find_chunk(*chunks_, range.start);
  if (!chunk || range.length > chunk->length - (range.start - chunk->start)) return nullptr;
  return chunk;
}

Result<Segments> Map::for_read(LogicalRange range, unsigned copy) const {
  const Chunk* chunk = chunk_of(range);
  if (!chunk) return Error(Errc::bad_chunk_table, DeviceId(), range.start.value);
  if (copy != kAnyCopy && copy >= chunk->copies) return Error(Errc::not_found);
  Segments segments;
  std::optional<Error> missing;
  for_each_piece(*chunk, range, [&](uint32_t column, uint64_t at, uint64_t length, uint64_t done) {
    const unsigned chosen = copy != kAnyCopy ? copy : choose_copy(*chunk, column, at);
    const Stripe& stripe = chunk->stripes[column * chunk->copies + chosen];
    Device* device = device_of(stripe.device);
    if (device == nullptr) {
      missing = Error(Errc::missing_device, stripe.device, (stripe.offset + at).value);
      return;
    }
    segments.push_back({device, stripe.device, stripe.offset + at, length, done});
  });
  if (missing) return *missing;
  return segments;
}

Device* Map::device_of(DeviceId devid) const {
  const auto found = devices_->find(devid);
  return found == devices_->end() ? nullptr : found->second.get();
}

/// Of equally busy devices neighbouring pieces of kReadRun bytes take different ones. So a reader
/// stays on one device for a while, and a long read has the speed of all.
unsigned Map::choose_copy(const Chunk& chunk, uint32_t column, uint64_t at) const {
  constexpr uint64_t kReadRun = 256 * 1024;
  if (chunk.copies == 1 || chunk.profile == Profile::dup) return 0;
  const unsigned first = static_cast<unsigned>(at / kReadRun % chunk.copies);
  unsigned best = first;
  uint64_t least = UINT64_MAX;
  for (unsigned i = 0; i < chunk.copies; ++i) {
    const unsigned copy = (first + i) % chunk.copies;
    Device* device = device_of(chunk.stripes[column * chunk.copies + copy].device);
    if (device == nullptr) continue;
    const uint64_t under_way = device->counters().reads_under_way.load(std::memory_order_relaxed);
    if (under_way >= least) continue;
    least = under_way;
    best = copy;
  }
  return best;
}

Result<Segments> Map::for_write(LogicalRange range) const {
  const Chunk* chunk = chunk_of(range);
  if (!chunk) return Error(Errc::bad_chunk_table, DeviceId(), range.start.value);
  Segments segments;
  std::optional<Error> missing;
  for_each_piece(*chunk, range, [&](uint32_t column, uint64_t at, uint64_t length, uint64_t done) {
    bool any = false;
    for (unsigned copy = 0; copy < chunk->copies; ++copy) {
      const Stripe& stripe = chunk->stripes[column * chunk->copies + copy];
      Segment segment{device_of(stripe.device), stripe.device, stripe.offset + at, length, done};
      if (segment.device != nullptr) {
        segments.push_back(segment);
        any = true;
      }
      if (!duplicates(stripe.device, {segment.offset, length})) continue;
      segment.device = duplication_->target.get();
      segment.to_target = true;
      segments.push_back(segment);
    }
    if (any) return;
    const Stripe& stripe = chunk->stripes[column * chunk->copies];
    missing = Error(Errc::missing_device, stripe.device, (stripe.offset + at).value);
  });
  if (missing) return *missing;
  return segments;
}

bool Map::duplicates(DeviceId devid, PhysicalRange range) const {
  return duplication_ && duplication_->source == devid && duplication_->rule->duplicates(range);
}

bool Map::has_copy(LogicalOffset at, unsigned copy) const {
  const Chunk* chunk = chunk_of({at, 1});
  if (chunk == nullptr || copy >= chunk->copies) return false;
  bool is_in = false;
  for_each_piece(*chunk, {at, 1}, [&](uint32_t column, uint64_t, uint64_t, uint64_t) {
    is_in = device_of(chunk->stripes[column * chunk->copies + copy].device) != nullptr;
  });
  return is_in;
}

size_t Map::chunks_lost(std::optional<DeviceId> without) const {
  const auto is_whole = [&](const std::shared_ptr<const Chunk>& chunk) {
    for (size_t column = 0; column < chunk->stripes.size(); column += chunk->copies) {
      const auto first = chunk->stripes.begin() + static_cast<ptrdiff_t>(column);
      const bool any = std::any_of(first, first + chunk->copies, [&](const Stripe& stripe) {
        return stripe.device != without && device_of(stripe.device) != nullptr;
      });
      if (!any) return false;
    }
    return true;
  };
  return static_cast<size_t>(
      std::count_if(chunks_->begin(), chunks_->end(), std::not_fn(is_whole)));
}

MapGuard::MapGuard(MapGuard&& other) noexcept
    : mapper_(std::exchange(other.mapper_, nullptr)),
      epoch_(other.epoch_),
      map_(std::move(other.map_)) {}

MapGuard& MapGuard::operator=(MapGuard&& other) noexcept {
  if (this != &other) {
    release();
    mapper_ = std::exchange(other.mapper_, nullptr);
    epoch_ = other.epoch_;
    map_ = std::move(other.map_);
  }
  return *this;
}

void MapGuard::release() {
  Mapper* mapper = std::exchange(mapper_, nullptr);
  if (!mapper) return;
  map_.reset();  // first: after drain() the devices of old maps may be expected to be closed
  mapper->release(epoch_);
}

Mapper::Mapper(Runtime& runtime, std::shared_ptr<const Map> first)
    : released_(runtime.make_wait_queue()), current_(std::move(first)) {
  ASSERT(current_);
}

MapGuard Mapper::acquire() {
  MapGuard guard;
  std::lock_guard lock(mutex_);
  guard.mapper_ = this;
  guard.epoch_ = epoch_;
  guard.map_ = current_;
  ++guards_[epoch_];
  return guard;
}

std::shared_ptr<const Map> Mapper::current() const {
  std::lock_guard lock(mutex_);
  return current_;
}

void Mapper::update(const std::function<std::shared_ptr<const Map>(const Map&)>& change) {
  std::shared_ptr<const Map> map;  // destroyed after the lock: that may close devices
  std::lock_guard lock(mutex_);
  map = change(*current_);
  ASSERT(map);
  current_.swap(map);
  ++epoch_;
}

void Mapper::drain() {
  std::unique_lock lock(mutex_);
  const uint64_t epoch = epoch_;
  released_->wait(lock, [&] { return guards_.empty() || guards_.begin()->first >= epoch; });
}

void Mapper::release(uint64_t epoch) {
  std::lock_guard lock(mutex_);
  auto held = guards_.find(epoch);
  ASSERT(held != guards_.end());
  if (--held->second > 0) return;
  guards_.erase(held);
  if (epoch != epoch_) released_->notify_all();
}

}  // namespace moltfs::alloc
