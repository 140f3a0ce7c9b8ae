// SPDX-License-Identifier: MIT
// The table of generation ranges that says what the target holds.
#include "replace/coverage.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::replace {

namespace {

constexpr PhysicalOffset kEverywhere{~uint64_t{0}};
/// Each arming and each walk adds at most one, so half of the room is for the gaps.
constexpr size_t kIntervalsBeforeArming = Coverage::kMaxIntervals / 2 - 2;

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
  return open() && walk_start() >= end;
}

void Coverage::encode(ByteWriter& writer) const {
  ASSERT(intervals_.size() <= kMaxIntervals);
  writer.u16(static_cast<uint16_t>(intervals_.size()));
  for (const Interval& interval : intervals_) {
    writer.u64(interval.first.value);
    writer.u64(interval.last.value);
    writer.u8(interval.all ? 1 : 0);
    writer.u64(interval.all ? 0 : interval.up_to.value);
  }
}

Result<Coverage> Coverage::decode(ByteReader& reader) {
  TRY(auto count, reader.u16());
  if (count > kMaxIntervals) return bad(fmt::format("{} intervals are too many", count));
  Coverage coverage;
  for (unsigned i = 0; i < count; ++i) {
    TRY(auto first, reader.u64());
    TRY(auto last, reader.u64());
    TRY(auto all, reader.u8());
    TRY(auto up_to, reader.u64());
    Interval interval{Generation(first), Generation(last), all == 1, PhysicalOffset(up_to)};
    if (all > 1) return bad(fmt::format("interval {}: kind {} is unknown", i, all));
    if (first > last) return bad(fmt::format("interval {}: ends before it begins", i));
    if (interval.last == kOpenEnd && (!interval.all || i + 1 != count)) {
      return bad(fmt::format("interval {}: must not be open", i));
    }
    if (interval.all && up_to != 0) return bad(fmt::format("interval {}: offset not zero", i));
    if (i > 0 && interval.first <= coverage.intervals_.back().last) {
      return bad(fmt::format("interval {}: overlaps the one before", i));
    }
    coverage.intervals_.push_back(interval);
  }
  return coverage;
}

std::string Coverage::describe() const {
  if (intervals_.empty()) return "nothing";
  std::string text;
  for (const Interval& interval : intervals_) {
    if (!text.empty()) text += ", ";
    text += interval.last == kOpenEnd
                ? fmt::format("[{}, ...): ", interval.first.value)
                : fmt::format("[{}, {}]: ", interval.first.value, interval.last.value);
    text += interval.all ? "all" : fmt::format("up to {}", interval.up_to.value);
  }
  return text;
}

}  // namespace moltfs::replace
