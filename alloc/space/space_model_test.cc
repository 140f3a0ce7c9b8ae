// SPDX-License-Identifier: MIT
// Space against a naive model: random allocation, freeing, freezing, commits, crashes and remounts
// with lazily loaded chunks, while the trees change during the load. Each step checks S1 to S4.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "alloc/disk/superblock.h"
#include "alloc/space/space.h"
#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;

/// The trees, as plain lists.
struct Extent {
  LogicalRange range;
  Generation birth;
};
struct Trees {
  std::vector<Extent> extents;
  std::map<LogicalOffset, Generation> nodes;
  std::map<LogicalOffset, uint64_t> usage;
};

class World final : AllocatedSource {
 public:
  World(uint64_t seed, std::vector<uint64_t> sizes, uint64_t chunk_size, Profile data,
        Profile metadata = Profile::dup)
      : random_(seed), sizes_(std::move(sizes)) {
    geometry_ = test::make_geometry(sizes_, chunk_size);
    geometry_.data_profile = data;
    geometry_.metadata_profile = metadata;
    runtime_.on_wait = [this] {
      ++seen_.waits;
      if (!freezes_.empty()) {
        freezes_.erase(freezes_.begin());
        return;
      }
      // Nothing is frozen, so this can only be a freeze that waits for reserved nodes.
      REQUIRE(held_);
      REQUIRE(held_->left() > 0);
      *held_ = NodeReservation();
    };
    durable_.chunks = std::make_shared<ChunkList>();
    mount();
  }

  /// How often rare events happened.
  struct Seen {
    int waits = 0, loads = 0, data_full = 0, nodes_full = 0, chunks_removed = 0, mounts = 0;
    int surely_free = 0;  // the lower bound was below the exact figure
    int durable_before_free = 0;
  };
  const Seen& seen() const { return seen_; }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      check_surely_free();
      check_chunks();
      if (i % 16 == 0) check_sums();
    }
  }

 private:
  // What one block (4 KiB of logical address space) is.
  enum : uint8_t { kUsed = 1, kPinned = 2, kDurable = 4, kClosing = 8 };

  /// What most steps do for a while, so that the volume fills up with data or with nodes.
  enum class Trend { none, data, nodes, deleting };

  uint64_t below(uint64_t n) { return random_() % n; }
  uint8_t& flag(LogicalOffset at) {
    const uint64_t block = at.value / kBlockSize;
    if (block >= flags_.size()) flags_.resize(block + 4096);
    return flags_[block];
  }
  template <class F>
  void each_block(LogicalRange range, F f) {
    for (uint64_t at = 0; at < range.length; at += kBlockSize) f(flag(range.start + at));
  }
  void mark(LogicalRange range, uint8_t bits) {
    each_block(range, [&](uint8_t& f) { f |= bits; });
  }
  void unmark(LogicalRange range, uint8_t bits) {
    each_block(range, [&](uint8_t& f) { f &= static_cast<uint8_t>(~bits); });
  }
  bool frozen(LogicalRange range) const {
    for (const auto& [freeze, ranges] : freezes_) {
      for (const LogicalRange& r : ranges) {
        if (r.overlaps(range)) return true;
      }
    }
    return false;
  }

  void mount() {
    ++seen_.mounts;
    freezes_.clear();
    in_flight_.clear();
    pins_.clear();
    sealed_.reset();
    is_durable_ = false;
    space_.reset();
    mapper_ = test::make_mapper(runtime_, sizes_, durable_.chunks);
    space_ = std::make_unique<Space>(runtime_, *mapper_, geometry_, durable_.next_logical);
    trees_ = durable_trees_;
    last_sealed_chunks_ = durable_.chunks;
    running_ = durable_.generation + 1;
    flags_.clear();
    for (const auto& [chunk, bytes] : trees_.usage) space_->set_data_used(chunk, bytes);
    for (const auto& [address, birth] : trees_.nodes) {
      REQUIRE(space_->mark_node(address, birth));
      REQUIRE_FALSE(space_->mark_node(address, birth));
      mark({address, kNodeSize}, kUsed | kDurable);
    }
    for (const Extent& e : trees_.extents) mark(e.range, kUsed | kDurable);
    space_->set_allocated_source(this);
  }

  void step() {
    if (below(400) == 0) trend_ = static_cast<Trend>(below(4));
    if (below(4) != 0) {
      switch (trend_) {
        case Trend::none:
          break;
        case Trend::data:
          return below(2) ? allocate() : record();
        case Trend::nodes:
          return allocate_nodes();
        case Trend::deleting:
          return below(3) ? free_some(5) : free_nodes(10);
      }
    }
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return allocate();
      case 4:
      case 5:
        return record();
      case 6:
      case 7:
        return free_some(below(6) == 0 ? 40 : 1);
      case 8:
      case 9:
        return allocate_nodes();
      case 10:
      case 11:
        return free_nodes(1 + below(20));
      case 12:
        return below(3) ? seal() : record_usage(3);
      case 13:
        return below(2) ? commit() : freeze();
      case 14:
        return thaw();
      default:
        if (below(40) == 0) mount();
    }
  }

  void check_new(LogicalRange range, ChunkKind kind) {
    const Chunk* chunk = mapper_->current()->chunk_of(range);
    REQUIRE(chunk);
    REQUIRE(chunk->kind == kind);
    each_block(range, [&](uint8_t& f) { REQUIRE(f == 0); });  // S1
    REQUIRE_FALSE(frozen(range));                             // S2
    mark(range, kUsed);
  }

  void allocate() {
    const uint64_t wanted = (1 + below(below(3) ? 8 : 600)) * kBlockSize;
    const auto chunks_before = mapper_->current()->chunks().size();
    const ReserveClass reserve_class = below(3) ? ReserveClass::normal : ReserveClass::reclaiming;
    auto range = space_->allocate_data(wanted, running_, reserve_class);
    if (sizes_.size() == 1 && mapper_->current()->chunks().size() > chunks_before) {
      REQUIRE(node_bytes_left() >= space_->metadata_reserve());
    }
    if (!range) {
      ++seen_.data_full;
      if (range.error() == Errc::io_error) return;
      REQUIRE(range.error() == Errc::no_space);
      if (reserve_class == ReserveClass::normal && sizes_.size() == 1) {
        REQUIRE(space_->surely_free_bytes() == 0);
      }
      // Then all blocks of all data chunks are used or pinned, except the reserve.
      uint64_t free = 0;
      for (const auto& chunk : mapper_->current()->chunks()) {
        if (chunk->kind != ChunkKind::data) continue;
        each_block(chunk->range(), [&](uint8_t& f) {
          if ((f & (kUsed | kPinned)) == 0) free += kBlockSize;
        });
      }
      REQUIRE(free <= (reserve_class == ReserveClass::normal ? Space::kDataReserve : 0));
      if (trend_ != Trend::data || below(20) == 0) free_some(60);
      return;
    }
    REQUIRE(range.value().length <= wanted);
    check_new(range.value(), ChunkKind::data);
    in_flight_.push_back(range.value());
  }

  /// Free node space and what unallocated space gives of it, on one device.
  uint64_t node_bytes_left() {
    const SpaceUsage usage = space_->usage();
    uint64_t pinned = 0;
    for (const auto& [generation, ranges] : pins_) {
      for (LogicalRange range : ranges) {
        if (find_chunk(mapper_->current()->chunks(), range.start)->kind == ChunkKind::metadata) {
          pinned += range.length;
        }
      }
    }
    return usage.metadata_chunk_bytes - usage.metadata_used_bytes - pinned +
           round_down(usage.unallocated_bytes / 2, kMiB);
  }

  /// Records a part of an allocation, cancels a part of it, or both.
  void record() {
    if (in_flight_.empty()) return;
    const size_t index = below(in_flight_.size());
    LogicalRange all = in_flight_[index];
    in_flight_.erase(in_flight_.begin() + static_cast<long>(index));
    const uint64_t recorded =
        below(4) ? all.length : below(all.length / kBlockSize + 1) * kBlockSize;
    if (recorded > 0) {
      space_->record_data({all.start, recorded});
      trees_.extents.push_back({{all.start, recorded}, running_});
    }
    const LogicalRange rest{all.start + recorded, all.length - recorded};
    if (rest.length == 0) return;
    if (below(2)) {
      in_flight_.push_back(rest);
    } else {
      space_->cancel_data(rest);
      unmark(rest, kUsed);
    }
  }

  void pin_or_free(LogicalRange range, Generation birth) {
    unmark(range, kUsed);
    if (birth < running_) {
      mark(range, kPinned);
      pins_[running_].push_back(range);
    }
  }

  void free_some(uint64_t count) {
    for (; count > 0 && !trees_.extents.empty(); --count) {
      const size_t index = below(trees_.extents.size());
      const Extent extent = trees_.extents[index];
      trees_.extents.erase(trees_.extents.begin() + static_cast<long>(index));
      // Cut something out of it.
      const uint64_t blocks = extent.range.length / kBlockSize;
      const uint64_t first = below(3) ? 0 : below(blocks);
      const uint64_t last = below(3) ? blocks : first + 1 + below(blocks - first);
      const LogicalOffset start = extent.range.start;
      const LogicalRange gone{start + first * kBlockSize, (last - first) * kBlockSize};
      if (first > 0) trees_.extents.push_back({{start, first * kBlockSize}, extent.birth});
      if (last < blocks) {
        trees_.extents.push_back({{gone.end(), (blocks - last) * kBlockSize}, extent.birth});
      }
      space_->free_data(gone, extent.birth, running_);
      pin_or_free(gone, extent.birth);
    }
  }

  void allocate_nodes() {
    const uint64_t count = 1 + below(12);
    const ReserveClass reserve_class = below(3) ? ReserveClass::normal : ReserveClass::reclaiming;
    auto reservation = space_->reserve_nodes(count, reserve_class, running_);
    if (!reservation) {
      ++seen_.nodes_full;
      REQUIRE(reservation.error() == Errc::no_space);
      if (trend_ != Trend::nodes || below(20) == 0) free_nodes(30);
      return;
    }
    if (reserve_class == ReserveClass::normal && sizes_.size() == 1) {
      REQUIRE(node_bytes_left() >= space_->metadata_reserve() + count * kNodeSize);
    }
    if (below(4) == 0) {  // a freeze must leave enough nodes for the reservation
      held_ = &reservation.value();
      freeze();
      held_ = nullptr;
    }
    for (uint64_t i = below(2) ? count : below(count); i > 0; --i) {
      if (reservation.value().left() == 0) break;
      const LogicalOffset at = space_->allocate_node(reservation.value(), running_);
      check_new({at, kNodeSize}, ChunkKind::metadata);
      trees_.nodes[at] = running_;
    }
  }

  void free_nodes(uint64_t count) {
    for (; count > 0 && !trees_.nodes.empty(); --count) {
      auto node = std::next(trees_.nodes.begin(), static_cast<long>(below(trees_.nodes.size())));
      space_->free_node(node->first, running_);
      pin_or_free({node->first, kNodeSize}, node->second);
      trees_.nodes.erase(node);
    }
  }

  /// Brings about one in `n` usage records up to date: a commit does it in several sections.
  void record_usage(uint64_t n) {
    std::vector<UsageChange> some;
    for (const auto& change : space_->usage_changes()) {
      if (below(n) != 0) continue;
      trees_.usage[change.chunk] = change.used_bytes;
      if (change.used_bytes == 0) trees_.usage.erase(change.chunk);
      some.push_back(change);
    }
    space_->usage_is_recorded(some);
  }

  void seal() {
    if (sealed_) return;
    record_usage(1);
    auto before = mapper_->current()->shared_chunks();
    sealed_ = space_->seal(running_);
    sealed_trees_ = trees_;
    ++running_;

    std::map<LogicalOffset, uint64_t> used;
    for (const Extent& e : trees_.extents) {
      used[find_chunk(*sealed_->chunks, e.range.start)->start] += e.range.length;
      mark(e.range, kClosing);
    }
    REQUIRE(used == trees_.usage);  // exact, in-flight allocations do not count
    for (const auto& [address, birth] : trees_.nodes) {
      REQUIRE(find_chunk(*sealed_->chunks, address));
      mark({address, kNodeSize}, kClosing);
    }
    seen_.chunks_removed += static_cast<int>(sealed_->removed.size());
    for (const auto& chunk : sealed_->removed) {
      REQUIRE_FALSE(frozen(chunk->range()));
      each_block(chunk->range(), [&](uint8_t& f) { REQUIRE((f & ~kDurable) == 0); });
      REQUIRE_FALSE(find_chunk(*mapper_->current()->shared_chunks(), chunk->start));
    }
    REQUIRE(sealed_->chunks == mapper_->current()->shared_chunks());
    REQUIRE(sealed_->chunks_changed == (sealed_->chunks != last_sealed_chunks_));
    last_sealed_chunks_ = sealed_->chunks;
    REQUIRE(before->size() == sealed_->chunks->size() + sealed_->removed.size());
  }

  void commit() {
    if (!sealed_) return;
    if (!is_durable_) made_durable();
    if (below(3) == 0) {
      ++seen_.durable_before_free;
      return;
    }
    space_->committed(*sealed_);
    while (!pins_.empty() && pins_.begin()->first <= sealed_->generation) {
      for (LogicalRange range : pins_.begin()->second) unmark(range, kPinned);
      pins_.erase(pins_.begin());
    }
    sealed_.reset();
    is_durable_ = false;
  }

  /// Frees nothing: until committed() allocations find what is pinned and removed still taken.
  void made_durable() {
    const uint64_t pinned = space_->usage().pinned_bytes;
    const uint64_t unallocated = space_->usage().unallocated_bytes;
    space_->made_durable(*sealed_);
    REQUIRE(space_->usage().pinned_bytes == pinned);
    REQUIRE(space_->usage().unallocated_bytes == unallocated);
    REQUIRE(space_->committed_chunks() == sealed_->chunks);
    for (uint8_t& f : flags_) {
      f = static_cast<uint8_t>((f & ~(kDurable | kClosing)) | (f & kClosing ? kDurable : 0));
    }
    durable_ = *sealed_;
    durable_trees_ = sealed_trees_;
    is_durable_ = true;
  }

  void freeze() {
    const DeviceId device(1 + below(sizes_.size()));
    const uint64_t at = below(sizes_[device.value - 1] / kNodeSize) * kNodeSize;
    auto piece = space_->freeze_stripe(device, {PhysicalOffset(at), (1 + below(256)) * kNodeSize});
    REQUIRE(piece);
    if (!piece.value().chunk) {
      REQUIRE_FALSE(piece.value().freeze);
      return;
    }
    REQUIRE(mapper_->current()->chunk_of(piece.value().chunk->range()) ==
            piece.value().chunk.get());
    std::vector<LogicalRange> ranges;
    for (const auto& p :
         pieces_of_stripe(*piece.value().chunk, piece.value().stripe_index, piece.value().range)) {
      ranges.push_back({p.logical, p.length});
    }
    freezes_.emplace_back(std::move(piece.value().freeze), std::move(ranges));
    while (freezes_.size() > 6) freezes_.erase(freezes_.begin());
  }

  void thaw() {
    if (!freezes_.empty()) {
      freezes_.erase(freezes_.begin() + static_cast<long>(below(freezes_.size())));
    }
  }

  /// Lists the running tree in four parts, and changes it between them.
  Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override {
    ++seen_.loads;
    if (below(8) == 0) return Error(Errc::io_error);
    std::vector<LogicalRange> ranges;
    for (uint64_t part = 0; part < 4; ++part) {
      const LogicalRange window{chunk.start + chunk.length / 4 * part, chunk.length / 4};
      for (const Extent& e : trees_.extents) {
        if (e.range.overlaps(window)) ranges.push_back(e.range);
      }
      if (below(2)) free_some(below(4));
      if (below(3) == 0) seal();
      if (below(3) == 0) commit();
      if (below(6) == 0) thaw();
    }
    return ranges;
  }

  void check_chunks() {
    const auto chunks = mapper_->current()->shared_chunks();
    if (chunks == checked_chunks_) return;
    checked_chunks_ = chunks;
    ChunkList all = *chunks;
    if (sealed_) all.insert(all.end(), sealed_->removed.begin(), sealed_->removed.end());  // S4
    for (size_t id = 1; id <= sizes_.size(); ++id) {
      uint64_t end = kFirstChunkOffset;
      for (const auto& extent : device_extents(all, DeviceId(id))) {
        REQUIRE(extent.range.start.value >= end);
        end = extent.range.end().value;
      }
      REQUIRE(end <= sizes_[id - 1]);
    }
    for (size_t i = 1; i < chunks->size(); ++i) {  // S3: newer is higher
      REQUIRE((*chunks)[i - 1]->range().end() <= (*chunks)[i]->start);
    }
  }

  void check_surely_free() {
    const uint64_t surely = space_->surely_free_bytes();
    const SpaceUsage usage = space_->usage();
    const uint64_t without_commit =
        usage.available_bytes - std::min(usage.available_bytes, usage.pinned_data_bytes);
    const uint64_t exact = std::min(without_commit, usage.recordable_bytes);
    REQUIRE(surely <= exact);
    // New chunks are counted in units, of which one may be missed on each device.
    REQUIRE(surely + exact / 8 + 2 * sizes_.size() * kMiB >= exact);
    seen_.surely_free += surely > 0 && surely < exact;
  }

  void check_sums() {
    const SpaceUsage usage = space_->usage();
    uint64_t data = 0;
    for (const Extent& e : trees_.extents) data += e.range.length;
    for (const LogicalRange& r : in_flight_) data += r.length;
    REQUIRE(usage.data_used_bytes == data);
    REQUIRE(usage.metadata_used_bytes == trees_.nodes.size() * kNodeSize);
    uint64_t pinned = 0;
    for (const auto& [generation, ranges] : pins_) {
      for (LogicalRange r : ranges) pinned += r.length;
    }
    REQUIRE(usage.pinned_bytes == pinned);
    REQUIRE(space_->pinned_bytes() >= pinned);
    std::map<LogicalOffset, Generation> nodes;
    for (const auto& node : space_->nodes_in({LogicalOffset(0), ~uint64_t{0}})) {
      nodes[node.address] = node.birth;
    }
    REQUIRE(nodes == trees_.nodes);
  }

  Seen seen_;
  Trend trend_ = Trend::none;
  NodeReservation* held_ = nullptr;
  std::mt19937_64 random_;
  std::vector<uint64_t> sizes_;
  test::ScriptedRuntime runtime_;
  Space::Geometry geometry_;
  std::unique_ptr<Mapper> mapper_;
  std::unique_ptr<Space> space_;
  Generation running_;
  Trees trees_, sealed_trees_, durable_trees_;
  Space::Sealed durable_;
  std::optional<Space::Sealed> sealed_;
  bool is_durable_ = false;  // sealed_ is, but committed() was not called
  std::shared_ptr<const ChunkList> last_sealed_chunks_, checked_chunks_;
  std::vector<LogicalRange> in_flight_;
  std::map<Generation, std::vector<LogicalRange>> pins_;
  std::vector<uint8_t> flags_;
  std::vector<std::pair<Freeze, std::vector<LogicalRange>>> freezes_;  // destroyed before space_
};

/// The number of lives; MOLTFS_SEEDS overrides it, for long runs.
uint64_t seed_count(uint64_t usual) {
  const char* text = std::getenv("MOLTFS_SEEDS");
  return text ? std::strtoull(text, nullptr, 10) : usual;
}

TEST_CASE("random lives of a small volume agree with a naive model") {
  World::Seen all;
  for (uint64_t seed = 1; seed <= seed_count(12); ++seed) {
    INFO("seed " << seed);
    World world(seed, {64 * kMiB}, 8 * kMiB, Profile::single);
    world.run(6000);
    all.waits += world.seen().waits;
    all.loads += world.seen().loads;
    all.data_full += world.seen().data_full;
    all.nodes_full += world.seen().nodes_full;
    all.chunks_removed += world.seen().chunks_removed;
    all.mounts += world.seen().mounts;
    all.surely_free += world.seen().surely_free;
    all.durable_before_free += world.seen().durable_before_free;
  }
  // If this fails, the test does not reach the cases that it is for.
  CHECK(all.waits > 10);
  CHECK(all.loads > 10);
  CHECK(all.data_full > 10);
  CHECK(all.nodes_full > 10);
  CHECK(all.chunks_removed > 10);
  CHECK(all.mounts > 10);
  CHECK(all.surely_free > 10);
  CHECK(all.durable_before_free > 10);
}

TEST_CASE("random lives of a volume on several devices, with striped data") {
  using Pair = std::pair<Profile, Profile>;
  for (const auto& [data, metadata] :
       {Pair{Profile::raid0, Profile::dup}, Pair{Profile::raid1, Profile::raid1},
        Pair{Profile::raid10, Profile::raid1c3}, Pair{Profile::raid1c3, Profile::raid1c4},
        Pair{Profile::single, Profile::raid1}}) {
    for (uint64_t seed = 1; seed <= seed_count(6) / 3; ++seed) {
      INFO("seed " << seed << " " << name_of(data) << " " << name_of(metadata));
      World world(seed, {32 * kMiB, 40 * kMiB, 24 * kMiB, 31 * kMiB}, 4 * kMiB, data, metadata);
      world.run(4000);
    }
  }
}

}  // namespace
}  // namespace moltfs::alloc
