// SPDX-License-Identifier: MIT
// What could not be read. A source may fail for a while only (a cable, a controller), and what it
// still has must not be given up. So the unreadable blocks, the holes of the coverage, are read
// again after the walk, several times. If holes remain, the replace is suspended before the swap;
// it finishes only when the user has accepted their loss.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "replace/engine.h"

namespace moltfs::replace {

namespace {

/// How soon a pause notices that the copy has to end.
constexpr Nanoseconds kPausePoll = std::chrono::milliseconds(100);

}  // namespace

/// All slots have ended.
asio::awaitable<void> Engine::retry_unreadable() {
  for (const Nanoseconds pause : options_.retry_pauses) {
    bool all_accepted = false;
    {
      Lock lock(mutex_);
      const Coverage& coverage = ledger_.current().coverage;
      if (must_end() || coverage.holes().empty()) co_return;
      all_accepted = !coverage.has_unaccepted_holes();
      log_warning("replace: {} blocks could not be read; reading them again",
                  coverage.lost_blocks());
    }
    const bool go_on = co_await pause_before_retry(all_accepted ? Nanoseconds::zero() : pause);
    if (!go_on) co_return;
    auto job = [this] { read_holes_again(); };
    co_await background_.blocking(std::move(job));
    if (all_accepted) co_return;
  }
}

/// False if the copy has to end.
asio::awaitable<bool> Engine::pause_before_retry(Nanoseconds pause) {
  const Nanoseconds due = volume_.runtime().now() + pause;
  for (;;) {
    {
      Lock lock(mutex_);
      if (must_end()) co_return false;
    }
    const Nanoseconds now = volume_.runtime().now();
    if (now >= due) co_return true;
    co_await background_.sleep(std::min(due - now, kPausePoll));
  }
}

/// On a worker. What lies in a hole and was not written under duplication is copied, whatever the
/// offsets of the coverage say.
void Engine::read_holes_again() {
  std::vector<Coverage::Hole> holes;
  std::unique_ptr<Copier> copier;
  std::string first_before;
  {
    Lock lock(mutex_);
    if (must_end()) return;
    const Record& record = ledger_.current();
    const DeviceId source = record.facts.source.devid;
    holes = record.coverage.holes();
    first_before = std::exchange(lost_, {});
    copier = std::make_unique<Copier>(
        volume_, host_,
        Copier::Setup{source, target_, record.coverage.duplicated(), PhysicalOffset(), Generation(),
                      [this] { return gave_up(); }});
  }
  AlignedBuffer buffer(slot_bytes());
  for (const Coverage::Hole& hole : holes) {
    if (read_hole_again(*copier, hole.range, buffer.span())) continue;
    Lock lock(mutex_);
    if (lost_.empty()) lost_ = first_before;
    return;
  }
  Lock lock(mutex_);
  if (!ledger_.standing()) return;
  Status& facts = ledger_.current().facts;
  facts.reason = lost_;
  if (facts.errors.read_uncorrectable == 0) log_info("replace: everything could be read now");
}

/// False if the copy has to end.
bool Engine::read_hole_again(Copier& copier, PhysicalRange hole, Bytes buffer) {
  std::vector<PhysicalRange> left;
  for (const PhysicalRange window : windows_of(hole)) {
    const WindowResult result = copier.copy(window, buffer);
    {
      Lock lock(mutex_);
      Status& facts = ledger_.current().facts;
      facts.bytes_copied += result.copied_bytes;
      facts.errors.read_corrected += result.read_corrected;
      rate_.add(volume_.runtime().now(), result.copied_bytes);
      if (lost_.empty() && !result.unreadable.empty()) {
        lost_ = (std::string(kLost) + result.first_unreadable).substr(0, kMaxReasonBytes);
      }
    }
    if (result.target_failure) target_fault(alloc::IoOp::write, *result.target_failure);
    if (result.failure) {
      suspend(fmt::format("the source at {} cannot be copied: {}", window.start.value,
                          result.failure->message()));
    }
    if (!result.done) return false;
    left.insert(left.end(), result.unreadable.begin(), result.unreadable.end());
  }
  Lock lock(mutex_);
  if (!ledger_.standing()) return false;
  Record& record = ledger_.current();
  record.coverage.read_again(hole, left);
  record.facts.errors.read_uncorrectable = record.coverage.lost_blocks();
  return !must_end();
}

/// The parts of `hole` that are allocated now, as windows that a copier can copy: each lies within
/// one device extent, has at most slot_bytes(), and cuts no node.
std::vector<PhysicalRange> Engine::windows_of(PhysicalRange hole) const {
  std::vector<PhysicalRange> windows;
  const auto map = volume_.mapper().current();
  DeviceId source;
  {
    Lock lock(mutex_);
    source = ledger_.current().facts.source.devid;
  }
  for (const alloc::DeviceExtent& extent : alloc::device_extents(map->chunks(), source)) {
    if (!extent.range.overlaps(hole)) continue;
    const uint64_t unit = extent.chunk->kind == alloc::ChunkKind::metadata ? kNodeSize : kBlockSize;
    const PhysicalOffset start = extent.range.start;
    uint64_t from = round_down(std::max(hole.start, start) - start, unit);
    const uint64_t to = std::min(round_up(std::min(hole.end(), extent.range.end()) - start, unit),
                                 extent.range.length);
    while (from < to) {
      const uint64_t length = std::min<uint64_t>(to - from, round_down(slot_bytes(), kNodeSize));
      windows.push_back({start + from, length});
      from += length;
    }
  }
  return windows;
}

/// On a worker. REQUIRES: activity finishing.
bool Engine::stop_at_holes() {
  uint64_t blocks = 0;
  DeviceId source;
  {
    Lock lock(mutex_);
    const Coverage& coverage = ledger_.current().coverage;
    if (!coverage.has_unaccepted_holes()) return false;
    blocks = coverage.lost_blocks();
    source = ledger_.current().facts.source.devid;
    ledger_.current().facts.reason.clear();
  }
  // A suspension goes back to what the last durable record says: that must name the holes.
  commit_or_warn();
  const std::string_view s = blocks == 1 ? "" : "s";
  if (volume_.device(source)) {
    suspend(fmt::format("{} block{} of the source cannot be read", blocks, s));
  } else {
    suspend(fmt::format("{} block{} of devid {}, which is out, cannot be read from another copy",
                        blocks, s, source.value));
  }
  return true;
}

Result<std::vector<Engine::Unreadable>> Engine::unreadable(size_t limit) {
  Record record;
  {
    Lock lock(mutex_);
    record = ledger_.record();
  }
  const Coverage duplicated = record.coverage.duplicated();
  const auto map = volume_.mapper().current();
  const auto extents = alloc::device_extents(map->chunks(), record.facts.source.devid);
  std::vector<Unreadable> found;
  const auto visit = [&](const alloc::DeviceExtent& on, PhysicalRange range) -> Result<void> {
    const Generation moved = on.chunk->stripes[on.stripe_index].birth;
    for (const auto& part : alloc::pieces_of_stripe(*on.chunk, on.stripe_index, range)) {
      TRY(auto items, host_.allocated_in({part.logical, part.length}));
      for (const AllocatedExtent& item : items) {
        const Generation birth = std::max(item.birth, moved);
        const PhysicalOffset at = part.physical + (item.start - part.logical);
        // What is lost was born before the last arming (Record::walk_before).
        if (birth >= record.walk_before || duplicated.covers(birth, at)) continue;
        if (found.size() < limit) found.push_back({host_.name_of(item), item.length});
      }
    }
    return ok();
  };
  for (const Coverage::Hole& hole : record.coverage.holes()) {
    for (const alloc::DeviceExtent& on : extents) {
      if (!on.range.overlaps(hole.range)) continue;
      const PhysicalOffset from = std::max(hole.range.start, on.range.start);
      const PhysicalOffset to = std::min(hole.range.end(), on.range.end());
      TRY(visit(on, {from, to - from}));
    }
  }
  return found;
}

}  // namespace moltfs::replace
