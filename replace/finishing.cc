// SPDX-License-Identifier: MIT
// The ends of a replace: swap, suspension, cancel.
//
// Finish, and what a crash leaves:
//   commit with pending_swap     the source is the member; the record says "finishing". The mount
//                                arms again, has nothing to copy, and finishes.
//   commit that swaps            alloc/volume/volume.h: the source or the target, never both. If it is the
//                                target, the record says "finishing" and the device table names the
//                                target: the mount knows that it is finished.
//   drain, close the source      the target is the member
//   commit                       the record says "finished"
#include <fmt/format.h>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "replace/engine_impl.h"
#include "replace/target_check.h"

namespace moltfs::replace {

/// Activity finishing or settling.
void Engine::Impl::finish() {
  if (announce_swap()) swap();
  bool is_finished = false;
  {
    Lock lock(mutex_);
    if (activity_ == Activity::idle) return;
    is_finished = ledger_.record().facts.state == State::finished;
  }
  if (is_finished) {
    finished();
  } else {
    settle();
  }
}

/// True if the swap may be asked for. Else duplication is off, or activity is idle (stop, cancel).
bool Engine::Impl::announce_swap() {
  alloc::Superblock::Succession succession;
  {
    Lock lock(mutex_);
    if (!ledger_.standing()) return false;
    Status& facts = ledger_.current().facts;
    facts.state = State::finishing;
    facts.bytes_total = facts.bytes_copied;
    succession = {facts.source.devid, facts.target.uuid, facts.target.path};
  }
  volume_.set_pending_swap(succession);
  auto committed = host_.commit();
  if (!committed) {
    suspend("the commit before the swap failed: " + committed.error().message());
    return false;
  }
  bool complete = false;
  {
    Lock lock(mutex_);
    if (!ledger_.standing()) return false;
    // The walk that has just ended began after the last arming; what it claims is durable now.
    complete = ledger_.durable_coverage().complete(walk_->end());
    if (complete && !stopping_ && !cancel_requested_) return true;
  }
  volume_.set_pending_swap(std::nullopt);
  if (!complete) {
    suspend("the target does not have everything after a full walk");
    return false;
  }
  Lock lock(mutex_);
  if (!ledger_.standing()) return false;
  ledger_.current().facts.state = State::copying;
  copier_.reset();
  set_activity(Activity::idle);
  return false;
}

void Engine::Impl::swap() {
  alloc::DeviceEntry target;
  {
    Lock lock(mutex_);
    target = ledger_.current().facts.target;
    swap_outcome_.reset();
  }
  volume_.request_swap(target.devid, target, [this](const alloc::SwapOutcome& outcome) {
    // Within the commit: the next one must find the ledger closed, for it flushes no target.
    Lock lock(mutex_);
    swap_outcome_ = outcome;
    if (outcome.done) {
      Record last = ledger_.record();
      last.coverage = Coverage();
      last.facts.state = State::finished;
      last.facts.ended = wall_seconds();
      last.facts.bytes_total = last.facts.bytes_copied;
      ledger_.close(std::move(last));
    }
    changed_->notify_all();
  });
  auto committed = host_.commit();
  std::string reason;
  if (volume_.withdraw_swap()) {
    reason = committed ? "no commit came upon it" : committed.error().message();
  } else {
    Lock lock(mutex_);
    changed_->wait(lock, [&] { return swap_outcome_.has_value(); });
    if (swap_outcome_->done) return;
    reason = swap_outcome_->reason;
  }
  suspend("the swap failed: " + reason);
}

/// The target is the member: lets the source go.
void Engine::Impl::finished() {
  volume_.mapper().drain();
  collect_duplicated();
  {
    Lock lock(mutex_);
    target_.reset();
    copier_.reset();
    walk_.reset();
  }
  auto committed = host_.commit();
  if (!committed) log_warning("replace: {}", committed.error().message());
  Lock lock(mutex_);
  const Status& facts = ledger_.record().facts;
  log_info("replace: finished: devid {} is {} now; {} copied, {} duplicated",
           facts.source.devid.value, facts.target.path, human_size(facts.bytes_copied),
           human_size(facts.bytes_duplicated));
  set_activity(Activity::idle);
}

void Engine::Impl::collect_duplicated() {
  Lock lock(mutex_);
  if (!duplicating_) return;
  duplicating_ = false;
  duplicated_before_ += volume_.duplicated_bytes();
  ledger_.current().facts.bytes_duplicated = duplicated_before_;
}

// ---- Suspension

void Engine::Impl::begin_settling() {
  {
    Lock lock(mutex_);
    set_activity(Activity::settling);
  }
  auto body = [this]() -> Result<void> {
    settle();
    return ok();
  };
  spawn(run_body(body, std::make_shared<std::optional<Result<void>>>()));
}

/// Duplication is off, and nobody must see the target any more once this returns.
void Engine::Impl::settle() {
  volume_.set_pending_swap(std::nullopt);
  volume_.disarm();
  collect_duplicated();
  bool commit = false;
  {
    Lock lock(mutex_);
    update_totals();
    target_.reset();
    copier_.reset();
    walk_.reset();
    commit = !stopping_;  // unmount commits anyway
  }
  if (commit) {
    auto committed = host_.commit();
    if (!committed) log_warning("replace: {}", committed.error().message());
  }
  Lock lock(mutex_);
  log_warning("replace: suspended: {}", ledger_.record().facts.reason);
  set_activity(Activity::idle);
}

// ---- Cancel

/// The record is closed and committed before the target is wiped: a crash in between leaves a
/// stale target, not a replace without one. If the commit fails, the replace has not ended on disk,
/// and the target stays as it is: the next mount goes on with it.
Result<void> Engine::Impl::undo() {
  volume_.set_pending_swap(std::nullopt);
  alloc::DeviceEntry entry;
  std::shared_ptr<alloc::Device> target;
  std::vector<std::string> hints;
  {
    Lock lock(mutex_);
    update_totals();
    Record last = ledger_.record();
    last.coverage = Coverage();
    last.facts.state = State::cancelled;
    last.facts.ended = wall_seconds();
    ledger_.close(std::move(last));
    entry = ledger_.record().facts.target;
    hints = hints_;
    target = std::move(target_);
  }
  volume_.disarm();
  collect_duplicated();
  auto committed = host_.commit();
  if (!committed) log_warning("replace: {}", committed.error().message());
  if (!target) {
    auto found = find_target(volume_, entry, hints, false);
    if (found) target = std::move(found.value());
  }
  if (target && committed) {
    auto wiped = alloc::wipe_superblocks(volume_.engine(), *target);
    if (!wiped) log_warning("{}: not wiped: {}", target->path(), wiped.error().message());
  }
  target.reset();
  Lock lock(mutex_);
  copier_.reset();
  walk_.reset();
  set_activity(Activity::idle);
  if (!committed) return committed.error();
  log_info("replace: cancelled");
  return ok();
}

}  // namespace moltfs::replace
