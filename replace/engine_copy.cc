// SPDX-License-Identifier: MIT
// The copy: slots that copy windows side by side in one walk over the source, and the commits that
// make the cursor durable. A slot keeps its worker as long as it has something to copy; it returns
// to the context to rest, to wait or to end.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/contain.h"
#include "alloc/base/log.h"
#include "replace/engine.h"

namespace moltfs::replace {

namespace {

/// How often a slot that waits for a durable cursor checks whether it may continue.
constexpr Nanoseconds kStallPoll = std::chrono::milliseconds(1);
/// How often a slot that makes room for programs checks whether they have stopped.
constexpr Nanoseconds kTurnPoll = std::chrono::milliseconds(20);
/// How long after a commit for which a device had no room.
constexpr Nanoseconds kFullPoll = std::chrono::milliseconds(200);

}  // namespace

void Engine::run() {
  {
    Lock lock(mutex_);
    const bool was_armed = target_ != nullptr;
    if (activity_ != Activity::idle || stopping_ || !was_armed) return;
    set_activity(Activity::arming);
  }
  (void)begin_copy_or_suspend();
}

/// Error: out_of_memory, and the replace is suspended.
Result<void> Engine::begin_copy_or_suspend() {
  auto begun = contain([this] { begin_copy(); });
  if (!begun) give_up_for(begun.error());
  return begun;
}

/// REQUIRES: activity arming, and armed; duplication may have broken since.
void Engine::begin_copy() {
  uint64_t walk_number = 0;
  Bytes memory;
  bool standing = false;
  {
    Lock lock(mutex_);
    ASSERT(activity_ == Activity::arming);
    standing = ledger_.standing();
    if (standing && (stopping_ || cancel_requested_)) return set_activity(Activity::idle);
    if (standing) start_walk();
    walk_number = walk_number_;
    memory = slot_memory_.span();
  }
  if (!standing) return finish_suspension();
  const auto cursor = contain([&] { spawn(commit_cursor(walk_number)); });
  if (!cursor) log_warning("replace: {}: fewer commits", cursor.error().message());
  // Fewer slots than planned will do.
  for (unsigned i = 0; i < slot_count(); ++i) {
    const Bytes buffer = memory.subspan(i * slot_bytes(), slot_bytes());
    const auto slot = contain([&] { spawn(copy_slot(buffer)); });
    if (slot) continue;
    Lock lock(mutex_);
    if (--slots_ > 0) continue;
    lock.unlock();
    suspend_for(slot.error());
    return give_up_for(slot.error());
  }
}

void Engine::start_walk() {
  Record& record = ledger_.current();
  Status& facts = record.facts;
  const Generation armed_since = record.coverage.armed_since();
  const PhysicalOffset end = end_of_source(facts.source.devid);
  const PhysicalOffset from = std::min(record.coverage.walk_start(), end);
  // The commit that armed is durable. So these chunks hold everything born before the arming.
  const auto chunks = volume_.space().committed_chunks();
  auto extents = alloc::device_extents(*chunks, facts.source.devid);
  std::erase_if(extents, [&](const alloc::DeviceExtent& extent) {
    return extent.chunk->stripes[extent.stripe_index].birth >= armed_since;
  });
  walk_.emplace(std::move(extents), from, end, options_.window_bytes, used_bytes());
  copier_ = std::make_shared<Copier>(
      volume_, host_,
      Copier::Setup{facts.source.devid, target_, record.coverage, record.started_right,
                    record.walk_before, [this] { return gave_up(); }});
  record.started_right = from;
  record.walk_before = armed_since;
  facts.cursor_left = walk_->cursor();
  facts.state = State::copying;
  rate_.start(volume_.runtime().now());
  busy_slots_ = 0;
  slots_ = slot_count();
  slot_memory_ = AlignedBuffer(slots_ * slot_bytes());
  ++walk_number_;
  committed_copied_ = 0;
  set_activity(Activity::copying);
  if (facts.rejoin) {
    log_info("replace: devid {} ({}) comes back: copying what it missed", facts.target.devid.value,
             facts.target.path);
  } else {
    log_info("replace: copying devid {} ({}) to {}", facts.source.devid.value, facts.source.path,
             facts.target.path);
  }
}

/// Everything on the source lies left of it.
PhysicalOffset Engine::end_of_source(DeviceId source) const {
  if (const auto device = volume_.device(source)) return PhysicalOffset(device->size_bytes());
  uint64_t end = volume_.space().last_extent_end(source);
  for (const alloc::DeviceEntry& entry : volume_.devices()) {
    if (entry.devid == source) end = std::max(end, entry.size_bytes);
  }
  return PhysicalOffset(end);
}

unsigned Engine::slot_count() const {
  return std::max(options_.windows_in_flight, 1u);
}

size_t Engine::slot_bytes() const {
  return std::max(options_.window_bytes, kNodeSize);
}

bool Engine::gave_up() const {
  Lock lock(mutex_);
  return !ledger_.standing() || cancel_requested_;
}

bool Engine::must_end() const {
  return stopping_ || cancel_requested_ || !ledger_.standing();
}

// ---- Copy slots

Engine::Step Engine::next_step() {
  Step step;
  Lock lock(mutex_);
  if (must_end()) return step;
  // What a crash would cost now, and how much of that a commit would save.
  const uint64_t at_stake = walk_->copied_bytes() - committed_copied_ + walk_->in_flight_bytes();
  const uint64_t gain = walk_->copied_left() - committed_copied_;
  const bool full = at_stake > 0 && at_stake + options_.window_bytes > options_.max_undurable_bytes;
  if (!committing_ && gain > 0 && (full || gain >= options_.commit_bytes)) {
    committing_ = step.commit = true;
    return step;
  }
  if (walk_->exhausted()) return step;
  step.shared = host_.programs_are_at_work();
  if (full) {
    step.wait = kStallPoll;
  } else if (step.shared && busy_slots_ >= Pace::kSharedSlots) {
    step.wait = kTurnPoll;
  } else {
    step.window = walk_->next(step.shared ? pace_.window_bytes() : UINT64_MAX);
    ledger_.current().started_right = walk_->started_right();
    ++busy_slots_;
  }
  return step;
}

/// The cursor passes a window with unreadable blocks; the same record says that they are holes.
void Engine::note_unreadable(const WindowResult& result) {
  if (result.unreadable.empty() || !ledger_.standing()) return;
  Record& record = ledger_.current();
  for (const PhysicalRange& block : result.unreadable) {
    record.coverage.add_hole({block, 1, false});
  }
  Status& facts = record.facts;
  facts.errors.read_uncorrectable = record.coverage.lost_blocks();
  if (!lost_.empty()) return;
  lost_ = (std::string(kLost) + result.first_unreadable).substr(0, kMaxReasonBytes);
  facts.reason = facts.reason.empty() ? lost_ : reason_for(facts.reason);
  log_error("replace: {}", lost_);
}

void Engine::window_done(PhysicalRange window, const WindowResult& result) {
  {
    Lock lock(mutex_);
    Status& facts = ledger_.current().facts;
    facts.bytes_copied += result.copied_bytes;
    facts.bytes_skipped += result.skipped_bytes;
    facts.bytes_recopied += std::min(result.recopied_bytes, result.copied_bytes);
    facts.errors.read_corrected += result.read_corrected;
    rate_.add(volume_.runtime().now(), result.copied_bytes);
    // A window that was given up stays unfinished, so the cursor never passes it.
    if (result.done) {
      note_unreadable(result);
      walk_->finished(window, result.copied_bytes + result.skipped_bytes, result.copied_bytes);
      if (ledger_.standing()) facts.cursor_left = walk_->cursor();
    }
  }
  if (result.target_failure) target_fault(alloc::IoOp::write, *result.target_failure);
  if (result.failure) {
    suspend(fmt::format("the source at {} cannot be copied: {}", window.start.value,
                        result.failure->message()));
  }
}

/// On a worker: copies one window after the other, until none is left or the slot has to pause.
Engine::Pause Engine::copy_windows(Bytes buffer) {
  Nanoseconds worked{0};  // while programs used the filesystem, since the last rest
  for (;;) {
    const Step step = next_step();
    if (step.commit) {
      commit_now_or_suspend();
      continue;
    }
    if (step.wait > Nanoseconds::zero()) return {step.wait, false, false};
    if (!step.window) return {Nanoseconds::zero(), false, true};
    const Nanoseconds begun = volume_.runtime().now();
    window_done(*step.window, copier_->copy(*step.window, buffer));
    const Nanoseconds work = volume_.runtime().now() - begun;
    Lock lock(mutex_);
    if (step.shared) {
      pace_.worked(step.window->length, work);
      worked += work;
    }
    if (worked >= Pace::kLeastRest && !must_end()) return {Pace::rest_after(worked), true, false};
    --busy_slots_;
  }
}

/// A slot that finds no memory for a window ends. The window stays unfinished.
Engine::Pause Engine::copy_windows_or_suspend(Bytes buffer) noexcept {
  const auto pause = contain([&] { return copy_windows(buffer); });
  if (pause) return pause.value();
  suspend_for(pause.error());
  return {Nanoseconds::zero(), false, true};
}

asio::awaitable<void> Engine::run_slot(Bytes buffer) {
  for (;;) {
    auto job = [this, buffer] { return copy_windows_or_suspend(buffer); };
    const Pause pause = co_await background_.blocking(std::move(job));
    if (pause.ends) break;
    co_await background_.sleep(pause.time);
    Lock lock(mutex_);
    if (pause.is_rest) --busy_slots_;
  }
}

/// The slot that ends last ends the copy.
asio::awaitable<void> Engine::copy_slot(Bytes buffer) {
  try {
    co_await run_slot(buffer);
  } catch (...) {
    suspend_for(error_of_exception());
  }
  bool last = false;
  {
    Lock lock(mutex_);
    last = --slots_ == 0;
    if (last) slot_memory_ = {};
  }
  if (!last) co_return;
  try {
    co_await end_walk();
  } catch (...) {
    give_up_for(error_of_exception());
  }
}

asio::awaitable<void> Engine::end_walk() {
  try {
    co_await retry_unreadable();
  } catch (...) {
    suspend_for(error_of_exception());
  }
  auto job = [this] { end_copy_or_suspend(); };
  co_await background_.blocking(std::move(job));
}

// ---- Making the cursor durable

/// On a worker. REQUIRES: the caller has set committing_. If a device is full, the next call tries
/// again.
void Engine::commit_now() {
  const auto committed = host_.commit();
  if (!committed && committed.error() == Errc::device_full) {
    volume_.runtime().sleep(kFullPoll);
  } else if (!committed) {
    suspend("a commit failed: " + committed.error().message());
  }
  Lock lock(mutex_);
  committing_ = false;
}

void Engine::commit_now_or_suspend() noexcept {
  const auto committed = contain([this] { commit_now(); });
  if (committed) return;
  suspend_for(committed.error());
  Lock lock(mutex_);
  committing_ = false;
}

/// Commits each commit_interval if the cursor moved: the slots commit only after many bytes.
asio::awaitable<void> Engine::commit_cursor(uint64_t walk_number) {
  for (;;) {
    co_await background_.sleep(options_.commit_interval);
    bool moved = false;
    {
      Lock lock(mutex_);
      const bool mine = walk_number_ == walk_number && activity_ == Activity::copying;
      if (!mine || stopping_ || !ledger_.standing()) break;
      update_totals();
      moved = !committing_ && ledger_.current().facts.cursor_left != committed_cursor_;
      if (moved) committing_ = true;
    }
    if (!moved) continue;
    auto job = [this] { commit_now_or_suspend(); };
    try {
      co_await background_.blocking(std::move(job));
    } catch (...) {
      (void)error_of_exception();
      Lock lock(mutex_);
      committing_ = false;  // the slots commit, too
    }
  }
}

/// On a worker: all slots have ended.
void Engine::end_copy() {
  bool standing = false;
  {
    Lock lock(mutex_);
    standing = ledger_.standing();
    if (standing && (stopping_ || cancel_requested_)) {
      update_totals();
      copier_.reset();
      return set_activity(Activity::idle);
    }
    if (standing) {
      ASSERT(walk_->complete());
      set_activity(Activity::finishing);
    }
  }
  if (standing && !stop_at_holes()) {
    finish();
  } else {
    finish_suspension();
  }
}

void Engine::end_copy_or_suspend() noexcept {
  const auto ended = contain([this] { end_copy(); });
  if (!ended) give_up_for(ended.error());
}

}  // namespace moltfs::replace
