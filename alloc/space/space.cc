// SPDX-License-Identifier: MIT
// Space: the lock, the waiting, the making and removing of chunks, and the reserve. What is free
// where is kept by DataChunks, NodeChunks and DeviceSpace.
#include "alloc/space/space.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/disk/format.h"
#include "alloc/disk/superblock.h"
#include "alloc/space/data_chunks.h"
#include "alloc/space/device_space.h"
#include "alloc/space/node_chunks.h"

namespace moltfs::alloc {
namespace {

/// A run this long is taken before a chunk is loaded or made for a longer one.
constexpr uint64_t kGoodRun = 128 * 1024;
constexpr uint64_t kMaxRun = BlockMap::kPageBlocks * kBlockSize;
constexpr uint64_t kMaxMetadataChunk = 1024 * 1024 * 1024;
constexpr uint64_t kMinReserve = 96 * kNodeSize;
constexpr uint64_t kMaxReserve = 512 * 1024 * 1024;
/// So much data needs a byte of metadata at most: an extent of one block takes 98 bytes in two
/// trees, whose leaves are half full at worst.
constexpr uint64_t kDataPerMetadata = 21;
/// Kept for that at most: on a volume of more than a terabyte not all will be in single blocks.
constexpr uint64_t kMaxHeadroom = 64ull * 1024 * 1024 * 1024;
/// Nodes that a small change takes.
constexpr uint64_t kSmallChange = 32 * kNodeSize;

uint64_t less(uint64_t a, uint64_t b) {
  return a - std::min(a, b);
}

uint64_t table_bytes_of(const Chunk& chunk) {
  return sizeof(format::ChunkRecord) + chunk.stripes.size() * sizeof(format::StripeRecord);
}

}  // namespace

class Space::Impl {
 public:
  Impl(Runtime& runtime, Mapper& map, const Geometry& g, LogicalOffset next)
      : mapper(map), geometry(g), changed(runtime.make_wait_queue()), next_logical(next) {}

  class Section;
  /// Node space as the estimates need it, bytes.
  struct NodeSpace {
    uint64_t free = 0;  ///< frozen or not, and promised to nobody
    uint64_t used = 0;
  };

  /// REQUIRES (all): mutex is held.
  void wait(std::unique_lock<std::mutex>& lock);
  void wake();
  void note_running(Generation generation) { running = std::max(running, generation); }

  bool make_chunk(ChunkKind kind);
  std::optional<DeviceSpace::Placement> place(ChunkKind kind) const;
  bool has_headroom(const NodeSpace& space, uint64_t potential, uint64_t data_chunk_bytes) const;
  bool leaves_headroom(const DeviceSpace::Placement& placement) const;
  uint64_t metadata_chunk_size() const;
  uint64_t reserve() const;
  uint64_t kept_from(ReserveClass reserve_class) const;
  uint64_t takable(uint64_t wanted, ReserveClass reserve_class);
  NodeSpace node_space() const { return {free_node_bytes(), nodes.allocated() * kNodeSize}; }
  uint64_t new_data_bytes(const NodeSpace& space) const;
  uint64_t recordable_bytes() const;
  void update_surely_free();
  /// Node bytes that are free (frozen or not) and promised to nobody.
  uint64_t free_node_bytes() const { return less(nodes.free(), outstanding) * kNodeSize; }
  void publish(std::shared_ptr<const ChunkList> list);
  bool load_one(std::unique_lock<std::mutex>& lock, uint64_t min_free, bool worthwhile);
  std::optional<uint64_t> try_freeze(const std::vector<LogicalRange>& ranges);
  Freeze hand_out(Space* space, uint64_t id);
  void thaw(uint64_t id);
  std::vector<std::shared_ptr<const Chunk>> chunks_to_remove() const;

  Mapper& mapper;
  const Geometry geometry;
  AllocatedSource* source = nullptr;

  mutable std::mutex mutex;
  std::unique_ptr<WaitQueue> changed;  // waiters of all kinds
  unsigned waiting = 0;                // guarded by mutex, as all below
  DataChunks data;
  NodeChunks nodes;
  DeviceSpace devices;
  std::shared_ptr<const ChunkList> chunks;     // the running table
  std::shared_ptr<const ChunkList> sealed;     // of the last seal
  std::shared_ptr<const ChunkList> committed;  // of the last durable commit
  uint64_t table_bytes = sizeof(format::ChunkTableHeader);
  LogicalOffset next_logical;
  Generation running{1};
  uint64_t outstanding = 0;                                // reserved nodes
  uint64_t retired_bytes = 0;                              // removed chunks, not durably so
  std::optional<Error> load_error;                         // of this transaction
  std::map<uint64_t, std::vector<LogicalOffset>> freezes;  // chunks under each
  uint64_t last_freeze = 0;

  /// What update_surely_free() has to compute but rarely, and when it holds.
  struct SurelyFree {
    uint64_t potential = 0;       // node bytes that unallocated space gives
    uint64_t new_data_bytes = 0;  // for the least node space within the bounds
    uint64_t device_changes = 0, data_chunk_bytes = 0;
    NodeSpace least, most;
  } basis;
  bool basis_holds(const NodeSpace& now) const;
  std::atomic<uint64_t> surely_free{0};
};

/// The lock of a method that changes what is free.
class Space::Impl::Section {
 public:
  explicit Section(Impl& space) : lock(space.mutex), space_(space) {}
  ~Section() { space_.update_surely_free(); }
  std::unique_lock<std::mutex> lock;

 private:
  Impl& space_;
};

// ---- Waiting

void Space::Impl::wait(std::unique_lock<std::mutex>& lock) {
  update_surely_free();
  ++waiting;
  changed->wait(lock);
  --waiting;
}

void Space::Impl::wake() {
  if (waiting > 0) changed->notify_all();
}

// ---- Making chunks

uint64_t Space::Impl::reserve() const {
  return std::clamp(round_down(devices.usable_bytes() / 256, kNodeSize), kMinReserve, kMaxReserve);
}

/// Node bytes that such an operation must leave free.
uint64_t Space::Impl::kept_from(ReserveClass reserve_class) const {
  switch (reserve_class) {
    case ReserveClass::normal:
      return reserve();
    case ReserveClass::reclaiming:
      return round_down(reserve() / 4, kNodeSize);
    case ReserveClass::committing:
      break;
  }
  return 0;
}

/// Smaller on small volumes, where one of full size would be a large part of the whole.
uint64_t Space::Impl::metadata_chunk_size() const {
  uint64_t size = DeviceSpace::kUnit;
  const uint64_t limit =
      std::min({geometry.chunk_size, kMaxMetadataChunk, devices.usable_bytes() / 32});
  while (size * 2 <= limit) size *= 2;
  return size;
}

/// There is what metadata may come to need for so many bytes of data chunks. `potential`: what
/// unallocated space gives.
bool Space::Impl::has_headroom(const NodeSpace& space, uint64_t potential,
                               uint64_t data_chunk_bytes) const {
  const uint64_t worst = data_chunk_bytes / kDataPerMetadata;
  const uint64_t growth = std::min(less(worst, space.used), kMaxHeadroom);
  return space.free + potential >= reserve() + growth;
}

bool Space::Impl::leaves_headroom(const DeviceSpace::Placement& placement) const {
  return has_headroom(node_space(), devices.potential_after(geometry.metadata_profile, placement),
                      data.chunk_bytes() + placement.length);
}

/// Data bytes that new chunks would give, as leaves_headroom() has it. Never more for less node
/// space, free or used.
uint64_t Space::Impl::new_data_bytes(const NodeSpace& space) const {
  const uint64_t spare = less(space.free + devices.potential(geometry.metadata_profile), reserve());
  const uint64_t per_node_byte = copies_of(geometry.metadata_profile);
  const uint64_t copies = copies_of(geometry.data_profile);
  // x * copies / per_node_byte + (chunks + x) / kDataPerMetadata <= spare + nodes_used
  const uint64_t room = less(spare + space.used, data.chunk_bytes() / kDataPerMetadata);
  const uint64_t by_growth =
      room * kDataPerMetadata / (copies * kDataPerMetadata + per_node_byte) * per_node_byte;
  const uint64_t by_limit = less(spare, kMaxHeadroom) * per_node_byte / copies;
  uint64_t bytes = std::min({std::max(by_growth, by_limit), spare * per_node_byte / copies,
                             devices.unallocated_bytes() / copies});
  // On each device a unit may be left without its pair.
  for (bytes = round_down(bytes, DeviceSpace::kUnit); bytes > 0; bytes -= DeviceSpace::kUnit) {
    const uint64_t potential = devices.potential_without(geometry.metadata_profile, bytes * copies);
    if (has_headroom(space, potential, data.chunk_bytes() + bytes)) break;
  }
  return bytes;
}

/// Data bytes that there are nodes to record, if they come in single blocks.
uint64_t Space::Impl::recordable_bytes() const {
  const uint64_t node_space = free_node_bytes() + devices.potential(geometry.metadata_profile);
  return less(node_space, reserve() + kSmallChange) * kDataPerMetadata;
}

bool Space::Impl::basis_holds(const NodeSpace& now) const {
  return basis.device_changes == devices.changes() &&
         basis.data_chunk_bytes == data.chunk_bytes() && basis.least.free <= now.free &&
         now.free <= basis.most.free && basis.least.used <= now.used && now.used <= basis.most.used;
}

/// Takes a few comparisons: new_data_bytes() is computed for a little less node space than there
/// is, and holds until that is used up or chunks come and go.
void Space::Impl::update_surely_free() {
  const NodeSpace now = node_space();
  if (!basis_holds(now)) {
    basis.potential = devices.potential(geometry.metadata_profile);
    basis.device_changes = devices.changes();
    basis.data_chunk_bytes = data.chunk_bytes();
    const uint64_t margin = (now.free + basis.potential) / 32;
    basis.least = {less(now.free, margin), less(now.used, margin)};
    basis.most = {now.free + margin, now.used + margin};
    basis.new_data_bytes = new_data_bytes(basis.least);
  }
  const uint64_t by_nodes =
      less(now.free + basis.potential, reserve() + kSmallChange) * kDataPerMetadata;
  surely_free.store(
      std::min(by_nodes, less(data.free_bytes() + basis.new_data_bytes, kDataReserve)),
      std::memory_order_relaxed);
}

/// Where a new chunk can lie. A data chunk is made shorter if need be, to leave the headroom.
std::optional<DeviceSpace::Placement> Space::Impl::place(ChunkKind kind) const {
  if (kind == ChunkKind::metadata) {
    return devices.place(geometry.metadata_profile, metadata_chunk_size());
  }
  auto best = devices.place(geometry.data_profile, geometry.chunk_size);
  if (!best || leaves_headroom(*best)) return best;
  uint64_t fits = 0, too_long = best->length / DeviceSpace::kUnit;
  best.reset();
  while (too_long - fits > 1) {
    const uint64_t middle = fits + (too_long - fits) / 2;
    auto placement = devices.place(geometry.data_profile, middle * DeviceSpace::kUnit);
    if (placement && leaves_headroom(*placement)) {
      best = std::move(placement);
      fits = middle;
    } else {
      too_long = middle;
    }
  }
  return best;
}

bool Space::Impl::make_chunk(ChunkKind kind) {
  const auto placement = place(kind);
  if (!placement) return false;
  auto chunk = std::make_shared<Chunk>();
  chunk->start = next_logical;
  chunk->length = placement->length;
  chunk->kind = kind;
  chunk->profile = kind == ChunkKind::data ? geometry.data_profile : geometry.metadata_profile;
  chunk->birth = running;
  chunk->copies = placement->copies;
  for (const auto& [device, offset] : placement->stripes) {
    chunk->stripes.push_back({device, offset, running});
  }
  if (table_bytes + table_bytes_of(*chunk) > kChunkTableMaxBytes) return false;

  next_logical += chunk->length;
  table_bytes += table_bytes_of(*chunk);
  devices.occupy(chunk);
  if (kind == ChunkKind::data) {
    data.add(chunk, true);
  } else {
    nodes.add(chunk);
  }
  auto list = std::make_shared<ChunkList>(*chunks);
  list->push_back(std::move(chunk));  // addresses only grow (S3): the list stays sorted
  publish(std::move(list));
  wake();
  return true;
}

void Space::Impl::publish(std::shared_ptr<const ChunkList> list) {
  chunks = std::move(list);
  mapper.update([&](const Map& map) {
    return std::make_shared<Map>(chunks, map.shared_devices(), map.duplication());
  });
}

// ---- Construction and mount

Space::Space(Runtime& runtime, Mapper& mapper, Geometry geometry, LogicalOffset next_logical)
    : impl_(std::make_unique<Impl>(runtime, mapper, geometry, next_logical)) {
  Impl& s = *impl_;
  s.chunks = s.sealed = s.committed = mapper.current()->shared_chunks();
  for (const auto& [device, end] : s.geometry.device_ends) s.devices.set_end(device, end);
  for (const auto& chunk : *s.chunks) {
    s.devices.occupy(chunk);
    s.table_bytes += table_bytes_of(*chunk);
    s.next_logical = std::max(s.next_logical, chunk->range().end());
    if (chunk->kind == ChunkKind::data) {
      s.data.add(chunk, false);
    } else {
      s.nodes.add(chunk);
    }
  }
  s.update_surely_free();
}

Space::~Space() = default;

void Space::set_data_used(LogicalOffset chunk, uint64_t bytes) {
  Impl::Section section(*impl_);
  impl_->data.set_used(chunk, bytes);
}

bool Space::mark_node(LogicalOffset address, Generation birth) {
  Impl::Section section(*impl_);
  return impl_->nodes.mark(address, birth);
}

void Space::add_logged(const ChunkList& chunks) {
  Impl& s = *impl_;
  Impl::Section section(s);
  auto list = std::make_shared<ChunkList>(*s.chunks);
  for (const auto& chunk : chunks) {
    ASSERT(chunk->kind == ChunkKind::data);
    s.devices.occupy(chunk);
    s.table_bytes += table_bytes_of(*chunk);
    s.next_logical = std::max(s.next_logical, chunk->range().end());
    s.data.add(chunk, false);
    list->push_back(chunk);
  }
  s.publish(std::move(list));
}

void Space::set_allocated_source(AllocatedSource* source) {
  std::lock_guard lock(impl_->mutex);
  impl_->source = source;
}

// ---- Data

/// Loads the map of one chunk, with the lock released meanwhile. False if there is none to load.
bool Space::Impl::load_one(std::unique_lock<std::mutex>& lock, uint64_t min_free, bool worthwhile) {
  if (!source) return false;
  if (data.loading() > 0) {
    wait(lock);
    return true;
  }
  auto chunk = data.begin_load(min_free, worthwhile);
  if (!chunk) return false;
  AllocatedSource* from = source;
  update_surely_free();
  lock.unlock();
  auto listed = from->allocated_in(chunk->range());
  lock.lock();
  if (!listed) load_error = listed.error();
  data.finish_load(*chunk, listed);
  wake();
  return true;
}

/// How much of `wanted` leaves the data reserve. Makes chunks where there is not enough in those
/// that are there.
uint64_t Space::Impl::takable(uint64_t wanted, ReserveClass reserve_class) {
  const uint64_t kept = reserve_class == ReserveClass::normal ? kDataReserve : 0;
  while (data.free_bytes() < wanted + kept && make_chunk(ChunkKind::data)) {
  }
  return std::min(wanted, less(data.free_bytes(), kept));
}

Result<LogicalRange> Space::allocate_data(uint64_t wanted, Generation running,
                                          ReserveClass reserve_class) {
  ASSERT(wanted > 0 && wanted % kBlockSize == 0);
  Impl& s = *impl_;
  wanted = std::min(wanted, kMaxRun);
  Impl::Section section(s);
  s.note_running(running);
  while (true) {
    const uint64_t most = s.takable(wanted, reserve_class);
    if (most == 0) break;
    const uint64_t good = std::min(most, kGoodRun);
    if (auto range = s.data.take(most, most)) return *range;
    if (auto range = s.data.take(most, good)) return *range;
    if (s.load_one(section.lock, good, true)) continue;
    if (s.make_chunk(ChunkKind::data)) continue;
    if (auto range = s.data.take(most, kBlockSize)) return *range;
    if (s.load_one(section.lock, kBlockSize, false)) continue;
    if (!s.data.frozen_could_serve()) break;
    s.wait(section.lock);
  }
  if (s.load_error) return *s.load_error;
  return Error(Errc::no_space);
}

void Space::record_data(LogicalRange range) {
  std::lock_guard lock(impl_->mutex);
  impl_->data.record(range);
}

void Space::cancel_data(LogicalRange range) {
  Impl::Section section(*impl_);
  impl_->data.cancel(range);
  impl_->wake();
}

void Space::free_data(LogicalRange range, Generation birth, Generation running) {
  Impl::Section section(*impl_);
  impl_->note_running(running);
  if (!impl_->data.free(range, birth, running)) {
    log_error("space: {} bytes of data at {:#x} are freed but were not allocated", range.length,
              range.start.value);
  }
  impl_->wake();
}

void Space::pin_freed_in(Generation running) {
  std::lock_guard lock(impl_->mutex);
  impl_->data.pin_freed_in(running);
}

std::pair<ChunkList, LogicalOffset> Space::data_chunks_from(LogicalOffset first) const {
  const Impl& s = *impl_;
  std::lock_guard lock(s.mutex);
  ChunkList found;
  for (auto at = s.chunks->rbegin(); at != s.chunks->rend() && (*at)->start >= first; ++at) {
    if ((*at)->kind == ChunkKind::data) found.push_back(*at);
  }
  std::reverse(found.begin(), found.end());
  return {std::move(found), s.next_logical};
}

// ---- Nodes

Result<NodeReservation> Space::reserve_nodes(uint64_t count, ReserveClass reserve_class,
                                             Generation running) {
  Impl& s = *impl_;
  Impl::Section section(s);
  s.note_running(running);
  const uint64_t kept = s.kept_from(reserve_class) / kNodeSize;
  while (true) {
    const uint64_t potential = s.devices.potential(s.geometry.metadata_profile) / kNodeSize;
    if (s.nodes.free() + potential < s.outstanding + count + kept) return Error(Errc::no_space);
    if (s.nodes.usable() >= s.outstanding + count) break;
    if (s.make_chunk(ChunkKind::metadata)) continue;
    if (s.nodes.usable() == s.nodes.free()) return Error(Errc::no_space);
    s.wait(section.lock);  // for a thaw
  }
  s.outstanding += count;
  NodeReservation reservation;
  reservation.space_ = this;
  reservation.left_ = count;
  return reservation;
}

LogicalOffset Space::allocate_node(NodeReservation& reservation, Generation birth) {
  ASSERT(reservation.space_ == this && reservation.left_ > 0);
  Impl::Section section(*impl_);
  --reservation.left_;
  --impl_->outstanding;
  return impl_->nodes.allocate(birth);
}

void Space::free_node(LogicalOffset address, Generation running) {
  Impl::Section section(*impl_);
  impl_->note_running(running);
  if (!impl_->nodes.free(address, running)) {
    log_error("space: the node at {:#x} is freed but was not allocated", address.value);
  }
  impl_->wake();
}

std::vector<AllocatedNode> Space::nodes_in(LogicalRange range) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->nodes.nodes_in(range);
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
  Space::Impl& s = *space_->impl_;
  Space::Impl::Section section(s);
  s.outstanding -= left_;
  s.wake();
}

// ---- Commit

std::vector<Space::UsageChange> Space::usage_changes() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->data.usage_changes();
}

void Space::usage_is_recorded(const std::vector<UsageChange>& changes) {
  std::lock_guard lock(impl_->mutex);
  impl_->data.usage_is_recorded(changes);
}

/// Empty chunks, but for one of each kind; metadata chunks only where enough stays.
std::vector<std::shared_ptr<const Chunk>> Space::Impl::chunks_to_remove() const {
  auto removed = data.removable();
  if (!removed.empty()) removed.erase(removed.begin());
  auto empty = nodes.removable();
  const uint64_t potential = devices.potential(geometry.metadata_profile);
  uint64_t usable = less(nodes.usable(), outstanding) * kNodeSize;
  for (size_t i = 1; i < empty.size(); ++i) {
    // Until the commit is durable what it held is neither free nor unallocated.
    if (usable < empty[i]->length || usable - empty[i]->length + potential < reserve()) break;
    usable -= empty[i]->length;
    removed.push_back(empty[i]);
  }
  return removed;
}

Space::Sealed Space::seal(Generation closing) {
  Impl& s = *impl_;
  Impl::Section section(s);
  s.note_running(closing + 1);
  Sealed result;
  result.generation = closing;
  result.removed = s.chunks_to_remove();
  if (!result.removed.empty()) {
    for (const auto& chunk : result.removed) {
      if (chunk->kind == ChunkKind::data) {
        s.data.remove(chunk->start);
      } else {
        s.nodes.remove(chunk->start);
      }
      s.devices.retire(*chunk);
      s.retired_bytes += chunk->length;
      s.table_bytes -= table_bytes_of(*chunk);
    }
    auto list = std::make_shared<ChunkList>();
    for (const auto& chunk : *s.chunks) {
      const bool stays = chunk->kind == ChunkKind::data ? s.data.contains(chunk->start)
                                                        : s.nodes.contains(chunk->start);
      if (stays) list->push_back(chunk);
    }
    s.publish(std::move(list));
  }
  s.data.seal();
  s.load_error.reset();
  result.chunks = s.chunks;
  result.chunks_changed = s.chunks != s.sealed;
  s.sealed = s.chunks;
  result.next_logical = s.next_logical;
  result.data_used_bytes = s.data.recorded_bytes();
  result.metadata_used_bytes = s.nodes.allocated() * kNodeSize;
  return result;
}

void Space::committed(const Sealed& sealed) {
  Impl& s = *impl_;
  Impl::Section section(s);
  s.data.release_pins(sealed.generation);
  s.nodes.release_pins(sealed.generation);
  for (const auto& chunk : sealed.removed) {
    s.devices.release(*chunk);
    s.retired_bytes -= chunk->length;
  }
  s.committed = sealed.chunks;
  s.wake();
}

// ---- Freezing

std::shared_ptr<const ChunkList> Space::committed_chunks() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->committed;
}

/// Freezes ranges that each lie within a chunk. Nothing, and nothing frozen, if that would leave
/// fewer nodes than are reserved.
std::optional<uint64_t> Space::Impl::try_freeze(const std::vector<LogicalRange>& ranges) {
  const uint64_t id = ++last_freeze;
  std::vector<LogicalOffset>& under = freezes[id];
  for (LogicalRange range : ranges) {
    const LogicalOffset chunk = find_chunk(*chunks, range.start)->start;
    if (data.contains(chunk)) {
      data.freeze(id, range);
    } else {
      nodes.freeze(id, range);
    }
    if (under.empty() || under.back() != chunk) under.push_back(chunk);
  }
  if (nodes.usable() >= outstanding) return id;
  thaw(id);
  return std::nullopt;
}

void Space::Impl::thaw(uint64_t id) {
  auto freeze = freezes.find(id);
  ASSERT(freeze != freezes.end());
  for (LogicalOffset chunk : freeze->second) {
    if (data.contains(chunk)) {
      data.thaw(id, chunk);
    } else {
      nodes.thaw(id, chunk);
    }
  }
  freezes.erase(freeze);
}

Freeze Space::Impl::hand_out(Space* space, uint64_t id) {
  Freeze freeze;
  freeze.space_ = space;
  freeze.id_ = id;
  return freeze;
}

Result<Space::FrozenPiece> Space::freeze_stripe(DeviceId device, PhysicalRange range) {
  Impl& s = *impl_;
  Impl::Section section(s);
  while (true) {
    const auto extent = s.devices.first_extent(device, range);
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
    if (auto id = s.try_freeze(ranges)) {
      piece.freeze = s.hand_out(this, *id);
      return piece;
    }
    if (!s.make_chunk(ChunkKind::metadata)) s.wait(section.lock);
  }
}

Freeze Space::freeze(LogicalRange range) {
  Impl& s = *impl_;
  Impl::Section section(s);
  while (true) {
    std::vector<LogicalRange> ranges;
    for (const auto& chunk : *s.chunks) {
      const LogicalOffset first = std::max(range.start, chunk->start);
      const LogicalOffset last = std::min(range.end(), chunk->range().end());
      if (first < last) ranges.push_back({first, last - first});
    }
    if (ranges.empty()) return Freeze();
    if (auto id = s.try_freeze(ranges)) return s.hand_out(this, *id);
    if (!s.make_chunk(ChunkKind::metadata)) s.wait(section.lock);
  }
}

void Space::load_data() {
  Impl::Section section(*impl_);
  while (impl_->load_one(section.lock, kBlockSize, false)) {
  }
}

Space::FreePieces Space::freeze_free(LogicalRange range, uint64_t least) {
  Impl& s = *impl_;
  std::lock_guard lock(s.mutex);
  FreePieces pieces;
  std::vector<LogicalRange> looked_at;
  for (const auto& chunk : *s.chunks) {
    const LogicalOffset first = std::max(range.start, chunk->start);
    const LogicalOffset last = std::min(range.end(), chunk->range().end());
    if (first >= last || !s.data.contains(chunk->start)) continue;
    looked_at.push_back({first, last - first});
    for (const LogicalRange& piece : s.data.usable_in(looked_at.back())) {
      if (piece.length >= least) pieces.ranges.push_back(piece);
    }
  }
  if (pieces.ranges.empty()) return pieces;
  const auto id = s.try_freeze(looked_at);
  if (!id) return {};
  pieces.freeze = s.hand_out(this, *id);
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
  std::lock_guard lock(space->impl_->mutex);
  space->impl_->thaw(id_);
  space->impl_->wake();
}

void Space::set_device_end(DeviceId device, uint64_t end_bytes) {
  Impl& s = *impl_;
  Impl::Section section(s);
  if (end_bytes == 0) {
    const auto map = s.mapper.current();
    auto member = map->devices().find(device);
    auto known = s.geometry.device_ends.find(device);
    if (member != map->devices().end() && member->second) {
      end_bytes = member->second->size_bytes();
    } else if (known != s.geometry.device_ends.end()) {
      end_bytes = known->second;
    }
  }
  s.devices.set_end(device, end_bytes);
  s.wake();
}

// ---- What there is

uint64_t Space::last_extent_end(DeviceId device) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->devices.last_extent_end(device);
}

uint64_t Space::used_bytes(LogicalOffset chunk) const {
  std::lock_guard lock(impl_->mutex);
  return impl_->data.used_bytes(chunk) + impl_->nodes.allocated_in(chunk) * kNodeSize;
}

SpaceUsage Space::usage() const {
  const Impl& s = *impl_;
  std::lock_guard lock(s.mutex);
  SpaceUsage usage;
  usage.device_bytes = s.devices.usable_bytes();
  usage.unallocated_bytes = s.devices.unallocated_bytes();
  usage.data_chunk_bytes = s.data.chunk_bytes();
  usage.data_used_bytes = s.data.recorded_bytes() + s.data.in_flight_bytes();
  usage.metadata_chunk_bytes = s.nodes.size() * kNodeSize;
  usage.metadata_used_bytes = s.nodes.allocated() * kNodeSize;
  usage.pinned_data_bytes = s.data.pinned_bytes();
  usage.pinned_bytes = usage.pinned_data_bytes + s.nodes.pinned() * kNodeSize;

  const uint64_t free =
      less(usage.data_chunk_bytes, usage.data_used_bytes) + s.new_data_bytes(s.node_space());
  usage.recordable_bytes = s.recordable_bytes();
  usage.available_bytes = usage.recordable_bytes == 0 ? 0 : less(free, kDataReserve);
  return usage;
}

uint64_t Space::surely_free_bytes() const {
  return impl_->surely_free.load(std::memory_order_relaxed);
}

uint64_t Space::pinned_bytes() const {
  const Impl& s = *impl_;
  std::lock_guard lock(s.mutex);
  uint64_t bytes = s.data.pinned_bytes() + s.nodes.pinned() * kNodeSize + s.retired_bytes;
  for (const auto& chunk : s.chunks_to_remove()) bytes += chunk->length;
  return bytes;
}

uint64_t Space::metadata_reserve() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->reserve();
}

}  // namespace moltfs::alloc
