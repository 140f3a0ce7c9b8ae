// SPDX-License-Identifier: MIT
// The ends of a replace: swap, suspension, cancel.
//
// Steps of a finish, and what a crash after each leaves:
//   commit with pending_swap    The source is the member; the record says "finishing". The mount
//                               arms again, has nothing to copy, and finishes.
//   commit that swaps           The source or the target is the member, never both
//                               (alloc/volume/volume.h). If it is the target, the record says
//                               "finishing" and the device table names the target: the mount knows
//                               that the replace is finished.
//   drain, close the source     The target is the member.
//   commit                      The record says "finished".
// A rejoin announces nothing: without the device the volume goes on as it was, and with it the
// device table tells whether the device is a member again.
#include <fmt/format.h>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "replace/engine.h"
#include "replace/target.h"

namespace moltfs::replace {

// ---- Finish

/// On a worker. REQUIRES: activity finishing.
void Engine::finish() {
  switch (announce_swap()) {
    case Announced::interrupted:
      return;
    case Announced::duplication_broke:
      return finish_suspension();
    case Announced::yes:
      break;
  }
  if (swap()) {
    release_source();
  } else {
    finish_suspension();
  }
}

/// Commits. While a device is full, tries again until there is room or the copy has to end.
Result<Generation> Engine::commit_patiently() {
  constexpr Nanoseconds kPause = std::chrono::milliseconds(200);
  for (;;) {
    auto committed = host_.commit();
    if (committed || committed.error() != Errc::device_full) return committed;
    {
      Lock lock(mutex_);
      if (must_end()) return committed;
    }
    volume_.runtime().sleep(kPause);
  }
}

/// Commits that a swap is pending. yes: the swap may be asked for. interrupted: by stop() or
/// cancel(); the activity is idle.
Engine::Announced Engine::announce_swap() {
  std::optional<alloc::Superblock::Succession> succession;
  {
    Lock lock(mutex_);
    if (!ledger_.standing()) return Announced::duplication_broke;
    Status& facts = ledger_.current().facts;
    facts.state = State::finishing;
    facts.bytes_total = facts.bytes_copied;
    if (!facts.rejoin) {
      succession = {facts.source.devid, facts.target.uuid, facts.target.path};
    }
  }
  volume_.set_pending_swap(succession);
  auto committed = commit_patiently();
  if (!committed) {
    suspend("the commit before the swap failed: " + committed.error().message());
    return Announced::duplication_broke;
  }
  bool complete = false;
  {
    Lock lock(mutex_);
    if (!ledger_.standing()) return Announced::duplication_broke;
    // The walk that has just ended began after the last arming; what it claims is durable now.
    complete = ledger_.durable_coverage().complete(walk_->end());
    if (complete && !stopping_ && !cancel_requested_) return Announced::yes;
  }
  volume_.set_pending_swap(std::nullopt);
  if (!complete) {
    suspend("the target does not have everything after a full walk");
    return Announced::duplication_broke;
  }
  Lock lock(mutex_);
  if (!ledger_.standing()) return Announced::duplication_broke;
  ledger_.current().facts.state = State::copying;
  copier_.reset();
  set_activity(Activity::idle);
  return Announced::interrupted;
}

/// Asks for the swap and commits. False: it failed, and duplication is off.
bool Engine::swap() {
  alloc::DeviceEntry target;
  bool keep_source = false;
  {
    Lock lock(mutex_);
    target = ledger_.current().facts.target;
    keep_source = !ledger_.current().coverage.holes().empty();
    swap_outcome_.reset();
  }
  const auto on_outcome = [this](const alloc::SwapOutcome& outcome) {
    // Within the commit. The ledger must be closed before the next one, which flushes no target.
    Lock lock(mutex_);
    swap_outcome_ = outcome;
    if (outcome.done) {
      Record last = ledger_.record();
      last.coverage = last.coverage.only_holes();
      last.facts.state = State::finished;
      last.facts.ended = wall_seconds();
      last.facts.bytes_total = last.facts.bytes_copied;
      ledger_.close(std::move(last));
    }
    changed_->notify_all();
  };
  volume_.request_swap(target.devid, target, on_outcome, keep_source);
  auto committed = commit_patiently();
  std::string reason;
  if (volume_.withdraw_swap()) {
    reason = committed ? "no commit carried it out" : committed.error().message();
  } else {
    Lock lock(mutex_);
    changed_->wait(lock, [&] { return swap_outcome_.has_value(); });
    if (swap_outcome_->done) return true;
    reason = swap_outcome_->reason;
  }
  suspend("the swap failed: " + reason);
  return false;
}

/// The target is the member: closes the source and commits the result.
void Engine::release_source() {
  volume_.mapper().drain();
  collect_duplicated();
  {
    Lock lock(mutex_);
    target_.reset();
    copier_.reset();
    walk_.reset();
  }
  commit_or_warn();
  Lock lock(mutex_);
  const Status& facts = ledger_.record().facts;
  log_info("replace: finished: devid {} is {} {}; {} copied, {} duplicated",
           facts.source.devid.value, facts.target.path, facts.rejoin ? "again" : "now",
           human_size(facts.bytes_copied), human_size(facts.bytes_duplicated));
  set_activity(Activity::idle);
}

void Engine::collect_duplicated() {
  Lock lock(mutex_);
  if (!duplicating_) return;
  duplicating_ = false;
  duplicated_before_ += volume_.duplicated_bytes();
  ledger_.current().facts.bytes_duplicated = duplicated_before_;
}

// ---- Suspension

/// REQUIRES: duplication is off, and the caller has claimed the activity (any). Afterwards nothing
/// uses the target any more, and the activity is idle.
void Engine::finish_suspension() {
  {
    Lock lock(mutex_);
    set_activity(Activity::suspending);
  }
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
    commit = !stopping_;  // an unmount commits anyway
  }
  if (commit) commit_or_warn();
  Lock lock(mutex_);
  const Status& facts = ledger_.record().facts;
  if (facts.state == State::suspended) log_warning("replace: suspended: {}", facts.reason);
  set_activity(Activity::idle);
}

// ---- Cancel

/// REQUIRES: activity cancelling. The record is closed and committed before the target is wiped: a
/// crash in between leaves a stale target, not a replace without a target. If the commit fails, the
/// replace has not ended on disk and the target stays as it is: the next mount continues. A device
/// that was to come back is not wiped: it stays out, and can still come back.
Result<void> Engine::undo() {
  volume_.set_pending_swap(std::nullopt);
  alloc::DeviceEntry entry;
  bool rejoin = false;
  std::shared_ptr<alloc::Device> target;
  {
    Lock lock(mutex_);
    update_totals();
    Record last = ledger_.record();
    last.coverage = Coverage();
    last.facts.state = State::cancelled;
    last.facts.ended = wall_seconds();
    ledger_.close(std::move(last));
    entry = ledger_.record().facts.target;
    rejoin = ledger_.record().facts.rejoin;
    target = std::move(target_);
  }
  volume_.disarm();
  collect_duplicated();
  auto committed = host_.commit();
  if (!committed) log_warning("replace: {}", committed.error().message());
  if (!target && !rejoin) {
    auto found = find_target(volume_, entry, hints(), false);
    if (found) target = std::move(found.value().device);
  }
  if (target && committed && !rejoin) {
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
