// SPDX-License-Identifier: MIT
// Space: the lock, the waiting, the life of chunks, and freezing.
#include "alloc/space/space.h"

#include <algorithm>
#include <utility>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/disk/format.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {
namespace {

/// A free run of this length is good enough: no chunk is loaded or made to find a longer one.
constexpr uint64_t kGoodRun = 128 * 1024;
constexpr uint64_t kMaxRun = BlockMap::kPageBlocks * kBlockSize;

uint64_t table_bytes_of(const Chunk& chunk) {
  return sizeof(format::ChunkRecord) + chunk.stripes.size() * sizeof(format::StripeRecord);
}

/// The part of `range` within `chunk`; nothing if there is none.
std::optional<LogicalRange> part_within(const Chunk& chunk, LogicalRange range) {
  const LogicalOffset first = std::max(range.start, chunk.start);
  const LogicalOffset last = std::min(range.end(), chunk.range().end());
  if (first >= last) return std::nullopt;
  return LogicalRange{first, last - first};
}

}  // namespace

// ---- Waiting

void Space::wait(std::unique_lock<std::mutex>& lock) {
  update_surely_free();
  ++waiting_;
  changed_->wait(lock);
  --waiting_;
}

void Space::wake() {
  if (waiting_ > 0) changed_->notify_all();
}

// ---- Construction and mount

Space::Space(Runtime& runtime, Mapper& mapper, Geometry geometry, LogicalOffset next_logical)
    : mapper_(mapper),
      geometry_(std::move(geometry)),
      changed_(runtime.make_wait_queue()),
      chunks_(mapper.current()->shared_chunks()),
      sealed_chunks_(chunks_),
      committed_chunks_(chunks_),
      table_bytes_(sizeof(format::ChunkTableHeader)),
      next_logical_(next_logical) {
  for (const auto& [device, end] : geometry_.device_ends) {
    devices_.set_end(device, end);
    devices_.set_in(device, mapper.current()->devices().count(device) > 0);
  }
  for (const auto& chunk : *chunks_) {
    devices_.occupy(chunk);
    table_bytes_ += table_bytes_of(*chunk);
    next_logical_ = std::max(next_logical_, chunk->range().end());
    if (chunk->kind == ChunkKind::data) {
      data_.add(chunk, false);
    } else {
      nodes_.add(chunk);
    }
  }
  update_surely_free();
}

void Space::set_data_used(LogicalOffset chunk, uint64_t bytes) {
  Change change(*this);
  data_.set_used(chunk, bytes);
}

bool Space::mark_node(LogicalOffset address, Generation birth) {
  Change change(*this);
  return nodes_.mark(address, birth);
}

void Space::add_logged(const ChunkList& chunks) {
  Change change(*this);
  auto list = std::make_shared<ChunkList>(*chunks_);
  for (const auto& chunk : chunks) {
    ASSERT(chunk->kind == ChunkKind::data);
    devices_.occupy(chunk);
    table_bytes_ += table_bytes_of(*chunk);
    next_logical_ = std::max(next_logical_, chunk->range().end());
    data_.add(chunk, false);
    list->push_back(chunk);
  }
  publish(std::move(list));
}

void Space::set_allocated_source(AllocatedSource* source) {
  std::lock_guard lock(mutex_);
  source_ = source;
}

// ---- Making chunks

/// Where a new chunk can lie. A data chunk is made shorter if need be, to leave the headroom.
std::optional<DeviceSpace::Placement> Space::place(ChunkKind kind) const {
  if (kind == ChunkKind::metadata) {
    return devices_.place(geometry_.metadata_profile, metadata_chunk_size());
  }
  uint64_t length = geometry_.chunk_size;
  if (devices_needed(geometry_.metadata_profile) > devices_needed(geometry_.data_profile)) {
    // Metadata needs some space on more devices than a data chunk has, so no chunk fills a device.
    length = std::min(length, devices_.half_length(geometry_.data_profile));
  }
  auto best = devices_.place(geometry_.data_profile, length);
  if (!best || leaves_headroom(*best)) return best;
  uint64_t fits = 0, too_long = best->length / DeviceSpace::kUnit;
  best.reset();
  while (too_long - fits > 1) {
    const uint64_t middle = fits + (too_long - fits) / 2;
    auto placement = devices_.place(geometry_.data_profile, middle * DeviceSpace::kUnit);
    if (placement && leaves_headroom(*placement)) {
      best = std::move(placement);
      fits = middle;
    } else {
      too_long = middle;
    }
  }
  return best;
}

/// False if there is no place for one.
bool Space::make_chunk(ChunkKind kind) {
  const auto placement = place(kind);
  if (!placement) return false;
  auto chunk = std::make_shared<Chunk>();
  chunk->start = next_logical_;
  chunk->length = placement->length;
  chunk->kind = kind;
  chunk->profile = kind == ChunkKind::data ? geometry_.data_profile : geometry_.metadata_profile;
  chunk->birth = running_;
  chunk->copies = placement->copies;
  for (const auto& [device, offset] : placement->stripes) {
    chunk->stripes.push_back({device, offset, running_});
  }
  if (table_bytes_ + table_bytes_of(*chunk) > kChunkTableMaxBytes) return false;
  if (chunk->range().end().value > kMaxLogical) return false;  // no addresses are left

  next_logical_ += chunk->length;
  table_bytes_ += table_bytes_of(*chunk);
  devices_.occupy(chunk);
  if (kind == ChunkKind::data) {
    data_.add(chunk, true);
  } else {
    nodes_.add(chunk);
  }
  auto list = std::make_shared<ChunkList>(*chunks_);
  list->push_back(std::move(chunk));  // addresses only grow (S3): the list stays sorted
  publish(std::move(list));
  wake();
  return true;
}

void Space::publish(std::shared_ptr<const ChunkList> list) {
  chunks_ = std::move(list);
  mapper_.update([&](const Map& map) {
    return std::make_shared<Map>(chunks_, map.shared_devices(), map.duplication());
  });
}

// ---- Data

/// Loads the map of one chunk; the lock is released meanwhile. False if there is none to load.
bool Space::load_one(std::unique_lock<std::mutex>& lock, uint64_t min_free, bool worthwhile) {
  if (!source_) return false;
  if (data_.loading() > 0) {
    wait(lock);
    return true;
  }
  auto chunk = data_.begin_load(min_free, worthwhile);
  if (!chunk) return false;
  AllocatedSource* from = source_;
  update_surely_free();
  lock.unlock();
  auto listed = from->allocated_in(chunk->range());
  lock.lock();
  if (!listed) load_error_ = listed.error();
  data_.finish_load(*chunk, listed);
  wake();
  return true;
}

/// How much of `wanted` can be taken without touching the data reserve. Makes chunks if the present
/// ones have too little.
uint64_t Space::takable(uint64_t wanted, ReserveClass reserve_class) {
  const uint64_t kept = reserve_class == ReserveClass::normal ? kDataReserve : 0;
  while (data_.free_bytes() < wanted + kept && make_chunk(ChunkKind::data)) {
  }
  return std::min(wanted, less(data_.free_bytes(), kept));
}

Result<LogicalRange> Space::allocate_data(uint64_t wanted, Generation running,
                                          ReserveClass reserve_class) {
  ASSERT(wanted > 0 && wanted % kBlockSize == 0);
  wanted = std::min(wanted, kMaxRun);
  Change change(*this);
  note_running(running);
  while (true) {
    const uint64_t max = takable(wanted, reserve_class);
    if (max == 0) break;
    const uint64_t good = std::min(max, kGoodRun);
    if (auto range = data_.take(max, max)) return *range;
    if (auto range = data_.take(max, good)) return *range;
    if (load_one(change.lock, good, true)) continue;
    if (make_chunk(ChunkKind::data)) continue;
    if (auto range = data_.take(max, kBlockSize)) return *range;
    if (load_one(change.lock, kBlockSize, false)) continue;
    if (!data_.frozen_could_serve()) break;
    wait(change.lock);
  }
  if (load_error_) return *load_error_;
  return Error(Errc::no_space);
}

void Space::record_data(LogicalRange range) {
  std::lock_guard lock(mutex_);
  data_.record(range);
}

void Space::cancel_data(LogicalRange range) {
  Change change(*this);
  data_.cancel(range);
  wake();
}

void Space::free_data(LogicalRange range, Generation birth, Generation running) {
  Change change(*this);
  note_running(running);
  if (!data_.free(range, birth, running)) {
    log_error("space: {} bytes of data at {:#x} are freed but were not allocated", range.length,
              range.start.value);
  }
  wake();
}

void Space::pin_freed_in(Generation running) {
  std::lock_guard lock(mutex_);
  data_.pin_freed_in(running);
}

std::pair<ChunkList, LogicalOffset> Space::data_chunks_from(LogicalOffset first) const {
  std::lock_guard lock(mutex_);
  ChunkList found;
  for (auto at = chunks_->rbegin(); at != chunks_->rend() && (*at)->start >= first; ++at) {
    if ((*at)->kind == ChunkKind::data) found.push_back(*at);
  }
  std::reverse(found.begin(), found.end());
  return {std::move(found), next_logical_};
}

// ---- Nodes

Result<NodeReservation> Space::reserve_nodes(uint64_t count, ReserveClass reserve_class,
                                             Generation running) {
  Change change(*this);
  note_running(running);
  const uint64_t kept = kept_from(reserve_class) / kNodeSize;
  while (true) {
    const uint64_t potential = devices_.potential(geometry_.metadata_profile) / kNodeSize;
    if (nodes_.free() + potential < reserved_nodes_ + count + kept) return Error(Errc::no_space);
    if (nodes_.usable() >= reserved_nodes_ + count) break;
    if (make_chunk(ChunkKind::metadata)) continue;
    if (nodes_.usable() == nodes_.free()) return Error(Errc::no_space);
    wait(change.lock);  // for a thaw
  }
  reserved_nodes_ += count;
  NodeReservation reservation;
  reservation.space_ = this;
  reservation.left_ = count;
  return reservation;
}

LogicalOffset Space::allocate_node(NodeReservation& reservation, Generation birth) {
  ASSERT(reservation.space_ == this && reservation.left_ > 0);
  Change change(*this);
  --reservation.left_;
  --reserved_nodes_;
  return nodes_.allocate(birth);
}

void Space::free_node(LogicalOffset address, Generation running) {
  Change change(*this);
  note_running(running);
  if (!nodes_.free(address, running)) {
    log_error("space: the node at {:#x} is freed but was not allocated", address.value);
  }
  wake();
}

std::vector<AllocatedNode> Space::nodes_in(LogicalRange range) const {
  std::lock_guard lock(mutex_);
  return nodes_.nodes_in(range);
}

NodeReservation::NodeReservation(NodeReservation&& other) noexcept
    : space_(std::exchange(other.space_, nullptr)), left_(std::exchange(other.left_, 0)) {}

NodeReservation& NodeReservation::operator=(NodeReservation&& other) noexcept {
  if (this != &other) {
    NodeReservation old(std::move(*this));
    space_ = std::exchange(other.space_, nullptr);
    left_ = std::exchange(other.left_, 0);
  }
  return *this;
}

NodeReservation::~NodeReservation() {
  if (!space_ || left_ == 0) return;
  Space::Change change(*space_);
  space_->reserved_nodes_ -= left_;
  space_->wake();
}

// ---- Commit

std::vector<UsageChange> Space::usage_changes() const {
  std::lock_guard lock(mutex_);
  return data_.usage_changes();
}

void Space::usage_is_recorded(const std::vector<UsageChange>& changes) {
  std::lock_guard lock(mutex_);
  data_.usage_is_recorded(changes);
}

/// The empty chunks, except one of each kind, and except metadata chunks without which too little
/// node space would be left.
std::vector<std::shared_ptr<const Chunk>> Space::chunks_to_remove() const {
  auto removed = data_.removable();
  if (!removed.empty()) removed.erase(removed.begin());
  auto empty = nodes_.removable();
  const uint64_t potential = devices_.potential(geometry_.metadata_profile);
  uint64_t usable = less(nodes_.usable(), reserved_nodes_) * kNodeSize;
  for (size_t i = 1; i < empty.size(); ++i) {
    // Until the commit is durable the space of a removed chunk is neither free nor unallocated.
    if (usable < empty[i]->length || usable - empty[i]->length + potential < reserve()) break;
    usable -= empty[i]->length;
    removed.push_back(empty[i]);
  }
  return removed;
}

Space::Sealed Space::seal(Generation closing) {
  Change change(*this);
  note_running(closing + 1);
  Sealed result;
  result.generation = closing;
  result.removed = chunks_to_remove();
  if (!result.removed.empty()) {
    for (const auto& chunk : result.removed) {
      if (chunk->kind == ChunkKind::data) {
        data_.remove(chunk->start);
      } else {
        nodes_.remove(chunk->start);
      }
      devices_.retire(*chunk);
      retired_bytes_ += chunk->length;
      table_bytes_ -= table_bytes_of(*chunk);
    }
    auto list = std::make_shared<ChunkList>();
    for (const auto& chunk : *chunks_) {
      const bool stays = chunk->kind == ChunkKind::data ? data_.contains(chunk->start)
                                                        : nodes_.contains(chunk->start);
      if (stays) list->push_back(chunk);
    }
    publish(std::move(list));
  }
  data_.retry_failed_loads();
  load_error_.reset();
  result.chunks = chunks_;
  result.chunks_changed = chunks_ != sealed_chunks_;
  sealed_chunks_ = chunks_;
  result.next_logical = next_logical_;
  result.data_used_bytes = data_.recorded_bytes();
  result.metadata_used_bytes = nodes_.allocated() * kNodeSize;
  return result;
}

void Space::made_durable(const Sealed& sealed) {
  std::lock_guard lock(mutex_);
  committed_chunks_ = sealed.chunks;
}

void Space::committed(const Sealed& sealed) {
  Change change(*this);
  data_.release_pins(sealed.generation);
  nodes_.release_pins(sealed.generation);
  for (const auto& chunk : sealed.removed) {
    devices_.release(*chunk);
    retired_bytes_ -= chunk->length;
  }
  committed_chunks_ = sealed.chunks;
  wake();
}

// ---- Freezing

std::shared_ptr<const ChunkList> Space::committed_chunks() const {
  std::lock_guard lock(mutex_);
  return committed_chunks_;
}

/// Freezes ranges, each of which lies within one chunk. Returns the id of the freeze. Returns
/// nothing and freezes nothing if too few nodes would be left for the reservations.
std::optional<uint64_t> Space::try_freeze(const std::vector<LogicalRange>& ranges) {
  const uint64_t id = ++last_freeze_;
  std::vector<LogicalOffset>& under = freezes_[id];
  for (LogicalRange range : ranges) {
    const LogicalOffset chunk = find_chunk(*chunks_, range.start)->start;
    if (data_.contains(chunk)) {
      data_.freeze(id, range);
    } else {
      nodes_.freeze(id, range);
    }
    if (under.empty() || under.back() != chunk) under.push_back(chunk);
  }
  if (nodes_.usable() >= reserved_nodes_) return id;
  thaw(id);
  return std::nullopt;
}

void Space::thaw(uint64_t id) {
  auto freeze = freezes_.find(id);
  ASSERT(freeze != freezes_.end());
  for (LogicalOffset chunk : freeze->second) {
    if (data_.contains(chunk)) {
      data_.thaw(id, chunk);
    } else {
      nodes_.thaw(id, chunk);
    }
  }
  freezes_.erase(freeze);
}

Result<Space::FrozenPiece> Space::freeze_stripe(DeviceId device, PhysicalRange range) {
  Change change(*this);
  while (true) {
    const auto extent = devices_.first_extent(device, range);
    if (!extent) return FrozenPiece();
    FrozenPiece piece;
    piece.chunk = extent->chunk;
    piece.stripe_index = extent->stripe_index;
    piece.range.start = std::max(range.start, extent->range.start);
    piece.range.length = std::min(range.end(), extent->range.end()) - piece.range.start;
    std::vector<LogicalRange> ranges;
    for (const auto& p : pieces_of_stripe(*piece.chunk, piece.stripe_index, piece.range)) {
      ranges.push_back({p.logical, p.length});
    }
    if (auto id = try_freeze(ranges)) {
      piece.freeze = Freeze(this, *id);
      return piece;
    }
    if (!make_chunk(ChunkKind::metadata)) wait(change.lock);
  }
}

Freeze Space::freeze(LogicalRange range) {
  Change change(*this);
  while (true) {
    std::vector<LogicalRange> ranges;
    for (const auto& chunk : *chunks_) {
      if (const auto part = part_within(*chunk, range)) ranges.push_back(*part);
    }
    if (ranges.empty()) return Freeze();
    if (auto id = try_freeze(ranges)) return Freeze(this, *id);
    if (!make_chunk(ChunkKind::metadata)) wait(change.lock);
  }
}

void Space::load_data() {
  Change change(*this);
  while (load_one(change.lock, kBlockSize, false)) {
  }
}

Space::FreePieces Space::freeze_free(LogicalRange range, uint64_t min_bytes) {
  std::lock_guard lock(mutex_);
  FreePieces pieces;
  std::vector<LogicalRange> searched;
  for (const auto& chunk : *chunks_) {
    const auto part = part_within(*chunk, range);
    if (!part || !data_.contains(chunk->start)) continue;
    searched.push_back(*part);
    for (const LogicalRange& piece : data_.usable_in(*part)) {
      if (piece.length >= min_bytes) pieces.ranges.push_back(piece);
    }
  }
  if (pieces.ranges.empty()) return pieces;
  const auto id = try_freeze(searched);
  if (!id) return {};
  pieces.freeze = Freeze(this, *id);
  return pieces;
}

Freeze::Freeze(Freeze&& other) noexcept
    : space_(std::exchange(other.space_, nullptr)), id_(other.id_) {}

Freeze& Freeze::operator=(Freeze&& other) noexcept {
  if (this != &other) {
    thaw();
    space_ = std::exchange(other.space_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

void Freeze::thaw() {
  Space* space = std::exchange(space_, nullptr);
  if (!space) return;
  std::lock_guard lock(space->mutex_);
  space->thaw(id_);
  space->wake();
}

// ---- Devices and chunks

void Space::set_device_end(DeviceId device, uint64_t end_bytes) {
  Change change(*this);
  if (end_bytes == 0) {
    const auto map = mapper_.current();
    auto member = map->devices().find(device);
    auto known = geometry_.device_ends.find(device);
    if (member != map->devices().end() && member->second) {
      end_bytes = std::min(member->second->size_bytes(), kMaxVolumeBytes);
    } else if (known != geometry_.device_ends.end()) {
      end_bytes = known->second;
    }
  }
  devices_.set_end(device, end_bytes);
  wake();
}

void Space::set_device_in(DeviceId device, bool is_in) {
  Change change(*this);
  devices_.set_in(device, is_in);
  wake();
}

uint64_t Space::last_extent_end(DeviceId device) const {
  std::lock_guard lock(mutex_);
  return devices_.last_extent_end(device);
}

uint64_t Space::used_bytes(LogicalOffset chunk) const {
  std::lock_guard lock(mutex_);
  return data_.used_bytes(chunk) + nodes_.allocated_in(chunk) * kNodeSize;
}

}  // namespace moltfs::alloc
