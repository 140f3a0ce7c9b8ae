// SPDX-License-Identifier: MIT
// The table of generation ranges that says what the target holds.
#include "replace/coverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/endian/arithmetic.hpp>
#include <type_traits>

#include "alloc/base/assert.h"

namespace moltfs::replace {

namespace {

constexpr PhysicalOffset kEverywhere{~uint64_t{0}};
/// Each arming and each walk adds at most one, so half of the room is for the gaps.
constexpr size_t kIntervalsBeforeArming = Coverage::kMaxIntervals / 2 - 2;

/// As in replace/FORMAT.md.
struct IntervalOnDisk {
  boost::endian::little_uint64_t first, last;
  boost::endian::little_uint8_t kind;  ///< 1: all, 0: up to an offset
  boost::endian::little_uint64_t up_to;
};
static_assert(sizeof(IntervalOnDisk) == 25 && std::is_trivially_copyable_v<IntervalOnDisk>);

struct HoleOnDisk {
  boost::endian::little_uint64_t start, length;
  boost::endian::little_uint32_t blocks;
  boost::endian::little_uint8_t accepted;
};
static_assert(sizeof(HoleOnDisk) == 21 && std::is_trivially_copyable_v<HoleOnDisk>);

Error bad(std::string text) {
  return Error(Errc::bad_item, "replace record: coverage: " + std::move(text));
}

}  // namespace

bool Coverage::covers(Generation birth, PhysicalOffset at) const {
  auto after = std::upper_bound(intervals_.begin(), intervals_.end(), birth,
                                [](Generation g, const Interval& i) { return g < i.first; });
  if (after == intervals_.begin()) return false;
  const Interval& candidate = *std::prev(after);
  return birth <= candidate.last && (candidate.all || at < candidate.up_to);
}

bool Coverage::open() const {
  return !intervals_.empty() && intervals_.back().last == kOpenEnd;
}

// Nothing is born in generation 0. A birth that is not true is taken for that one, and must not be
// covered.
void Coverage::claim_until(Generation last) {
  ASSERT(intervals_.empty() && last > Generation());
  intervals_.push_back({Generation(1), last, true, PhysicalOffset()});
}

void Coverage::arm(Generation first) {
  ASSERT(!open());
  ASSERT(intervals_.empty() || first > intervals_.back().last);
  forget_beyond(kIntervalsBeforeArming);
  intervals_.push_back({first, kOpenEnd, true, PhysicalOffset()});
}

/// Keeps the first one and the last ones. Forgetting is safe: what an interval covered is copied
/// again. The first one would cost most.
void Coverage::forget_beyond(size_t count) {
  if (intervals_.size() <= count) return;
  const auto first = intervals_.begin() + 1;
  intervals_.erase(first, first + static_cast<ptrdiff_t>(intervals_.size() - count));
}

void Coverage::disarm(Generation last_durable) {
  ASSERT(open());
  Interval& last = intervals_.back();
  if (last.first > last_durable) {
    intervals_.pop_back();
  } else {
    last.last = last_durable;
  }
}

void Coverage::cursor_reached(PhysicalOffset cursor) {
  ASSERT(open());
  if (cursor == PhysicalOffset()) return;
  size_t gaps = 0;
  Generation next;  // first generation that no interval so far says anything about
  for (const Interval& interval : intervals_) {
    gaps += next < interval.first ? 1 : 0;
    next = interval.last + 1;
  }
  if (intervals_.size() + gaps > kMaxIntervals) forget_beyond(kIntervalsBeforeArming);
  std::vector<Interval> filled;
  next = Generation();
  for (Interval interval : intervals_) {
    if (next < interval.first) filled.push_back({next, interval.first - 1, false, cursor});
    if (!interval.all) interval.up_to = std::max(interval.up_to, cursor);
    filled.push_back(interval);
    next = interval.last + 1;
  }
  intervals_ = std::move(filled);
  merge_neighbours();
}

void Coverage::merge_neighbours() {
  std::vector<Interval> merged;
  for (const Interval& interval : intervals_) {
    if (!merged.empty()) {
      Interval& last = merged.back();
      if (last.last + 1 == interval.first && last.all == interval.all &&
          last.up_to == interval.up_to && interval.last != kOpenEnd) {
        last.last = interval.last;
        continue;
      }
    }
    merged.push_back(interval);
  }
  intervals_ = std::move(merged);
}

Generation Coverage::newest() const {
  return intervals_.empty() ? Generation() : intervals_.back().last;
}

Generation Coverage::armed_since() const {
  ASSERT(open());
  return intervals_.back().first;
}

PhysicalOffset Coverage::walk_start() const {
  ASSERT(open());
  PhysicalOffset start = kEverywhere;
  Generation next;
  for (const Interval& interval : intervals_) {
    if (next < interval.first) return PhysicalOffset();
    if (!interval.all) start = std::min(start, interval.up_to);
    next = interval.last + 1;
  }
  return start;
}

bool Coverage::complete(PhysicalOffset end) const {
  return open() && walk_start() >= end && !has_unaccepted_holes();
}

// ---- Holes

uint64_t Coverage::lost_blocks() const {
  uint64_t blocks = 0;
  for (const Hole& hole : holes_) blocks += hole.blocks;
  return blocks;
}

/// Makes one hole of `first` and the next one. What lies between them becomes a part of it.
void Coverage::join_holes(size_t first) {
  Hole& left = holes_[first];
  const Hole& right = holes_[first + 1];
  left.range.length = std::max(left.range.end(), right.range.end()) - left.range.start;
  left.blocks = std::min(left.blocks + right.blocks, left.range.length / kBlockSize);
  left.accepted = left.accepted && right.accepted;
  holes_.erase(holes_.begin() + static_cast<ptrdiff_t>(first) + 1);
}

void Coverage::add_hole(Hole hole) {
  const auto place =
      std::upper_bound(holes_.begin(), holes_.end(), hole.range.start,
                       [](PhysicalOffset at, const Hole& h) { return at < h.range.start; });
  size_t at = static_cast<size_t>(place - holes_.begin());
  holes_.insert(place, hole);
  if (at > 0 && holes_[at - 1].range.end() >= hole.range.start) join_holes(--at);
  while (at + 1 < holes_.size() && holes_[at].range.end() >= holes_[at + 1].range.start) {
    join_holes(at);
  }
  while (holes_.size() > kMaxHoles) {
    size_t nearest = 0;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i + 1 < holes_.size(); ++i) {
      const uint64_t gap = holes_[i + 1].range.start - holes_[i].range.end();
      if (gap >= least) continue;
      least = gap;
      nearest = i;
    }
    join_holes(nearest);
  }
}

void Coverage::read_again(PhysicalRange range, std::span<const PhysicalRange> left) {
  const auto found = std::find_if(holes_.begin(), holes_.end(),
                                  [&](const Hole& hole) { return hole.range == range; });
  if (found == holes_.end()) return;  // joined with another one meanwhile
  const bool accepted = found->accepted;
  holes_.erase(found);
  for (const PhysicalRange& block : left) add_hole({block, 1, accepted});
}

void Coverage::accept_holes(bool accepted) {
  for (Hole& hole : holes_) hole.accepted = accepted;
}

bool Coverage::has_unaccepted_holes() const {
  return std::any_of(holes_.begin(), holes_.end(), [](const Hole& hole) { return !hole.accepted; });
}

Coverage Coverage::duplicated() const {
  Coverage all;
  for (const Interval& interval : intervals_) {
    if (interval.all) all.intervals_.push_back(interval);
  }
  return all;
}

Coverage Coverage::only_holes() const {
  Coverage holes;
  holes.holes_ = holes_;
  return holes;
}

void Coverage::encode(ByteWriter& writer) const {
  ASSERT(intervals_.size() <= kMaxIntervals);
  writer.u16(static_cast<uint16_t>(intervals_.size()));
  for (const Interval& interval : intervals_) {
    IntervalOnDisk disk{};
    disk.first = interval.first.value;
    disk.last = interval.last.value;
    disk.kind = interval.all ? 1 : 0;
    disk.up_to = interval.all ? 0 : interval.up_to.value;
    writer.object(disk);
  }
}

Result<Coverage> Coverage::decode(ByteReader& reader) {
  TRY(auto count, reader.u16());
  if (count > kMaxIntervals) return bad(fmt::format("{} intervals are too many", count));
  Coverage coverage;
  for (unsigned i = 0; i < count; ++i) {
    TRY(const auto disk, reader.object<IntervalOnDisk>());
    const unsigned kind = disk.kind;
    const Interval interval{Generation(disk.first), Generation(disk.last), kind == 1,
                            PhysicalOffset(disk.up_to)};
    if (kind > 1) return bad(fmt::format("interval {}: kind {} is unknown", i, kind));
    if (interval.first > interval.last)
      return bad(fmt::format("interval {}: ends before it begins", i));
    if (interval.last == kOpenEnd && (!interval.all || i + 1 != count)) {
      return bad(fmt::format("interval {}: must not be open", i));
    }
    if (interval.all && disk.up_to != 0) return bad(fmt::format("interval {}: offset not zero", i));
    if (i > 0 && interval.first <= coverage.intervals_.back().last) {
      return bad(fmt::format("interval {}: overlaps the one before", i));
    }
    coverage.intervals_.push_back(interval);
  }
  return coverage;
}

void Coverage::encode_holes(ByteWriter& writer) const {
  ASSERT(holes_.size() <= kMaxHoles);
  writer.u16(static_cast<uint16_t>(holes_.size()));
  for (const Hole& hole : holes_) {
    HoleOnDisk disk{};
    disk.start = hole.range.start.value;
    disk.length = hole.range.length;
    disk.blocks = static_cast<uint32_t>(std::min<uint64_t>(hole.blocks, UINT32_MAX));
    disk.accepted = hole.accepted ? 1 : 0;
    writer.object(disk);
  }
}

Result<void> Coverage::decode_holes(ByteReader& reader) {
  TRY(auto count, reader.u16());
  if (count == 0 || count > kMaxHoles) return bad(fmt::format("{} holes", count));
  PhysicalOffset end;
  for (unsigned i = 0; i < count; ++i) {
    TRY(const auto disk, reader.object<HoleOnDisk>());
    const uint64_t start = disk.start, length = disk.length, blocks = disk.blocks;
    const unsigned accepted = disk.accepted;
    if (start % kBlockSize != 0 || length % kBlockSize != 0 || length == 0 ||
        length > UINT64_MAX - start || blocks == 0 || blocks > length / kBlockSize) {
      return bad(fmt::format("hole {}: {} bytes at {} with {} blocks", i, length, start, blocks));
    }
    if (PhysicalOffset(start) < end) return bad(fmt::format("hole {}: overlaps", i));
    if (accepted > 1) return bad(fmt::format("hole {}: flag {} is unknown", i, accepted));
    holes_.push_back({{PhysicalOffset(start), length}, blocks, accepted == 1});
    end = holes_.back().range.end();
  }
  return ok();
}

std::string Coverage::describe() const {
  std::string text;
  if (intervals_.empty()) text = "nothing";
  for (const Interval& interval : intervals_) {
    if (!text.empty()) text += ", ";
    text += interval.last == kOpenEnd
                ? fmt::format("[{}, ...): ", interval.first.value)
                : fmt::format("[{}, {}]: ", interval.first.value, interval.last.value);
    text += interval.all ? "all" : fmt::format("up to {}", interval.up_to.value);
  }
  for (const Hole& hole : holes_) {
    text += fmt::format(", hole of {} at {}: {} blocks{}", hole.range.length,
                        hole.range.start.value, hole.blocks, hole.accepted ? ", accepted" : "");
  }
  return text;
}

}  // namespace moltfs::replace
