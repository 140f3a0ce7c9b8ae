// SPDX-License-Identifier: MIT
// Arming: for a new replace, for one that was suspended, and at mount.
//
// What a fault at each step of a start leaves:
//   checks                  nothing was written: only the error
//   discard, superblock     the target's superblocks are wiped; the record says "failed"
//   map published, drain    the same, after the map is plain again and drained
//   commit                  the same, and one more commit, because the record "armed" may be
//                           durable. After a crash before that commit, the mount finds no target
//                           and leaves the replace suspended; the user can cancel it.
// A device that comes back is not discarded, and its superblocks are not wiped: it stays a target,
// and what it holds stays usable (R9).
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/base/uuid.h"
#include "replace/engine.h"
#include "replace/target.h"

namespace moltfs::replace {

// ---- A new replace

/// Activity arming; idle if it fails.
Result<void> Engine::arm_new(const StartRequest& request) {
  Record candidate;
  CheckedTarget checked;
  auto check = [&]() -> Result<void> {
    TRY(auto source, find_source(volume_, request.source));
    TRY(checked, check_target(volume_, source, request));
    Status& facts = candidate.facts;
    facts.state = State::armed;
    facts.source = std::move(source);
    facts.source.out.reset();
    facts.target = {facts.source.devid,
                    Uuid::generate(volume_.runtime()),
                    checked.device->size_bytes(),
                    alloc::recordable_path(checked.device->path()),
                    {}};
    facts.started = wall_seconds();
    return ok();
  };
  auto armed = check();
  if (!armed) {
    Lock lock(mutex_);
    set_activity(Activity::idle);
    return armed;
  }
  {
    Lock lock(mutex_);
    duplicated_before_ = 0;
    lost_.clear();
    ledger_.begin_arming(candidate);
  }
  armed = prepare_target(volume_, candidate.facts.target, checked);
  if (armed) armed = arm(candidate.facts.source, checked.device);
  if (!armed) fail_start(disarm_failed(), armed.error(), *checked.device);
  return armed;
}

// ---- A device that comes back, or goes out

/// Activity arming; idle if it fails.
Result<void> Engine::arm_online(const OnlineRequest& request) {
  volume_.mapper().drain();  // if the device went out just now, it may still be open
  ReturningDevice returning;
  auto found = [&]() -> Result<void> {
    TRY(returning, find_returning(volume_, request, hints()));
    if (returning.unusable && !request.force) return *returning.unusable;
    // Only the device table says what the device still has. It must be durable that it is out.
    TRY(host_.commit());
    return ok();
  }();
  if (!found) {
    Lock lock(mutex_);
    set_activity(Activity::idle);
    return found;
  }
  if (!returning.unusable) return arm_returning(returning);
  const std::string devid = std::to_string(returning.entry.devid.value);
  const std::string path = returning.device->path();
  returning.device.reset();  // it is opened again
  return arm_new({devid, path, true, request.opener});
}

/// Activity arming; idle if it fails.
Result<void> Engine::arm_returning(const ReturningDevice& returning) {
  Record candidate;
  Status& facts = candidate.facts;
  facts.state = State::armed;
  facts.rejoin = true;
  facts.source = returning.entry;
  facts.source.out.reset();
  facts.target = facts.source;
  facts.target.path = alloc::recordable_path(returning.device->path());
  facts.target.size_bytes = returning.device->size_bytes();
  facts.started = wall_seconds();
  candidate.coverage.claim_until(returning.entry.out->whole_until);
  {
    Lock lock(mutex_);
    duplicated_before_ = 0;
    lost_.clear();
    ledger_.begin_arming(candidate);
  }
  auto armed = mark_returning(volume_, facts.target, *returning.device);
  if (armed) armed = arm(facts.source, returning.device);
  if (!armed) fail_start(disarm_failed(), armed.error(), *returning.device);
  return armed;
}

Result<void> Engine::offline(const std::string& device) {
  {
    Lock lock(mutex_);
    TRY(wait_for_turn(lock));
  }
  TRY(const auto entry, find_source(volume_, device));
  TRY(volume_.put_out(entry.devid, "it was taken offline by command"));
  TRY(host_.commit());
  return ok();
}

std::vector<std::string> Engine::hints() const {
  Lock lock(mutex_);
  return hints_;
}

// ---- Arming

Result<void> Engine::arm(const alloc::DeviceEntry& source, std::shared_ptr<alloc::Device> target) {
  Uuid target_uuid;
  {
    Lock lock(mutex_);
    target_ = target;
    target_uuid = ledger_.current().facts.target.uuid;
  }
  const uint64_t size = target->size_bytes();
  const std::string path = target->path();
  volume_.arm(source.devid, std::move(target), rule_, target_uuid);
  // From here on no chunk is made that would not fit. One may have been made since the check.
  TRY(check_size(volume_, source, path, size));
  {
    Lock lock(mutex_);
    duplicating_ = true;
    if (!ledger_.standing()) return Error(Errc::io_error, ledger_.current().facts.reason);
    ledger_.drained();
  }
  auto committed = host_.commit();
  Lock lock(mutex_);
  if (!ledger_.arming()) return ok();
  if (!ledger_.standing()) return Error(Errc::io_error, ledger_.current().facts.reason);
  if (!committed) return committed.error();
  return Error(Errc::io_error, "the commit that arms the replace did not become durable");
}

Record Engine::disarm_failed() {
  Record candidate;
  {
    Lock lock(mutex_);
    candidate = ledger_.give_up_arming();
  }
  volume_.disarm();
  Lock lock(mutex_);
  duplicating_ = false;
  target_.reset();
  return candidate;
}

void Engine::fail_start(const Record& candidate, const Error& error, alloc::Device& target) {
  const bool sealed = candidate.facts.start_generation != Generation();
  {
    Lock lock(mutex_);
    Record last = candidate;
    last.coverage = Coverage();
    last.facts.state = State::failed;
    last.facts.ended = wall_seconds();
    last.facts.reason = error.message().substr(0, kMaxReasonBytes);
    ledger_.close(std::move(last));
  }
  log_warning("replace: start failed: {}", error.message());
  if (sealed) commit_or_warn();
  if (!candidate.facts.rejoin) {
    auto wiped = alloc::wipe_superblocks(volume_.engine(), target);
    if (!wiped) log_warning("{}: not wiped: {}", target.path(), wiped.error().message());
  }
  Lock lock(mutex_);
  set_activity(Activity::idle);
}

// ---- A suspended replace

/// Activity arming; idle if it fails.
Result<void> Engine::arm_again(bool accept_loss) {
  volume_.disarm();  // a fault before run() leaves the volume armed
  Record record;
  {
    Lock lock(mutex_);
    target_.reset();
    duplicating_ = false;
    record = ledger_.record();
  }
  auto find_and_arm = [&]() -> Result<void> {
    TRY(auto target, find_recorded_target(record.facts));
    if (const auto older = is_older_copy(record, target)) {
      log_warning("replace: {}; everything is copied again", *older);
      {
        Lock lock(mutex_);
        copy_anew();
        record = ledger_.record();
      }
      // Before the target's superblock becomes a new one: after a crash nothing else would tell.
      TRY(host_.commit());
    }
    record.coverage.accept_holes(accept_loss);
    return arm_with(std::move(record), std::move(target.device));
  };
  auto armed = find_and_arm();
  if (armed) return ok();
  Lock lock(mutex_);
  set_activity(Activity::idle);
  return armed;
}

Result<void> Engine::arm_with(Record candidate, std::shared_ptr<alloc::Device> target) {
  Status& facts = candidate.facts;
  facts.state = State::copying;
  facts.ended = 0;
  facts.cursor_left = PhysicalOffset();
  facts.target.path = alloc::recordable_path(target->path());
  facts.target.size_bytes = target->size_bytes();
  {
    Lock lock(mutex_);
    duplicated_before_ = facts.bytes_duplicated;
    facts.reason = lost_;
    ledger_.begin_arming(candidate);
  }
  auto armed = arm(facts.source, std::move(target));
  if (armed) return ok();
  const Record failed = disarm_failed();
  {
    Lock lock(mutex_);
    ledger_.current().facts.errors = failed.facts.errors;
    ledger_.current().facts.reason = reason_for(armed.error().message());
  }
  // The record "copying" may be durable. It would do no harm, but it is not true.
  commit_or_warn();
  return armed;
}

/// The target that the record names, if it can be found and is large enough.
Result<FoundTarget> Engine::find_recorded_target(const Status& facts) {
  TRY(auto target, find_target(volume_, facts.target, hints(), true));
  const alloc::Device& device = *target.device;
  TRY(check_size(volume_, facts.source, device.path(), device.size_bytes()));
  return target;
}

/// What is claimed is at most of the commit that wrote the record.
std::optional<std::string> Engine::is_older_copy(const Record& record,
                                                 const FoundTarget& target) const {
  const Generation claimed = std::min(record.coverage.newest(), volume_.superblock().generation);
  if (!target.follows || target.generation >= claimed) return std::nullopt;
  return fmt::format(
      "the target {} is of generation {} and not of {}: it was put back from an older copy",
      target.device->path(), target.generation.value, claimed.value);
}

void Engine::copy_anew() {
  Record& record = ledger_.current();
  record.coverage = Coverage();
  if (record.facts.rejoin) {
    // Also true of an older copy: it was a target in this absence.
    for (const alloc::DeviceEntry& entry : volume_.devices()) {
      const bool same = entry.uuid == record.facts.target.uuid && entry.out;
      if (same) record.coverage.claim_until(entry.out->whole_until);
    }
  }
  record.facts.errors.read_uncorrectable = 0;
  record.facts.start_generation = Generation();
  record.facts.cursor_left = PhysicalOffset();
  lost_.clear();
}

// ---- At mount

Result<void> Engine::restore(const std::vector<std::string>& hints, bool read_only) {
  const alloc::Superblock superblock = volume_.superblock();
  auto record = decode_record(superblock.replace_payload);
  if (record) {
    auto fits = validate_in(record.value(), superblock);
    if (!fits) record = fits.error();
  }
  {
    Lock lock(mutex_);
    read_only_ = read_only_ || read_only;
    hints_ = hints;
    if (!record) {
      // This must not keep the volume from being mounted: the source is whole.
      log_warning("{}; it is dropped", record.error().message());
      return ok();
    }
    take_over(std::move(record.value()), superblock.generation);
    if (!ledger_.standing()) return ok();
  }
  auto armed = restore_target();
  if (armed) return ok();
  const std::string obstacle = armed.error().message();
  log_warning("replace: suspended: {}", obstacle);
  Lock lock(mutex_);
  if (ledger_.fault()) ledger_.current().facts.reason = reason_for(obstacle);
  return ok();
}

/// A record of an older program says how many blocks could not be read, but not where they are.
/// Then everything is copied again.
void forget_uncounted_holes(Record& record) {
  Status& facts = record.facts;
  const bool goes_on = in_progress(facts.state) || facts.state == State::suspended;
  if (!goes_on || facts.errors.read_uncorrectable == record.coverage.lost_blocks()) return;
  record.coverage = record.coverage.duplicated();
  facts.errors.read_uncorrectable = 0;
  facts.cursor_left = PhysicalOffset();
}

/// Makes `record`, which is that of the superblock of generation `durable`, ours.
void Engine::take_over(Record record, Generation durable) {
  const std::string& reason = record.facts.reason;
  lost_ = reason.substr(std::min(reason.find(kLost), reason.size()));
  if (in_progress(record.facts.state) && swap_has_happened(record)) {
    record.coverage = record.coverage.only_holes();
    record.facts.state = State::finished;
    record.facts.ended = wall_seconds();
  }
  forget_uncounted_holes(record);
  // The target may lack what the fsync log brought back (alloc/disk/log_batch.h). Those generations
  // become a gap, and the walk begins anew.
  if (record.coverage.open() && volume_.first_generation() > durable + 1) {
    record.coverage.disarm(durable);
    record.coverage.arm(volume_.first_generation());
    record.facts.cursor_left = PhysicalOffset();
  }
  committed_cursor_ = record.facts.cursor_left;
  duplicated_before_ = record.facts.bytes_duplicated;
  ledger_ = Ledger(std::move(record), durable);
}

bool Engine::swap_has_happened(const Record& record) const {
  for (const alloc::DeviceEntry& entry : volume_.devices()) {
    if (entry.uuid == record.facts.target.uuid) return !record.facts.rejoin || !entry.out;
  }
  return false;
}

/// Finds the target and duplicates again, before the first write.
Result<void> Engine::restore_target() {
  Record record;
  {
    Lock lock(mutex_);
    if (read_only_) return Error(Errc::read_only, "the volume is mounted read-only");
    record = ledger_.record();
  }
  const Status& facts = record.facts;
  volume_.set_pending_swap(std::nullopt);
  TRY(auto found, find_recorded_target(facts));
  if (const auto older = is_older_copy(record, found)) {
    Lock lock(mutex_);
    ledger_.fault();
    copy_anew();
    std::string reason = *older + "; \"moltfs replace resume\" copies everything again";
    ledger_.current().facts.reason = reason;
    return Error(Errc::bad_target, std::move(reason));
  }
  const auto target = std::move(found.device);
  {
    Lock lock(mutex_);
    target_ = target;
    Status& now = ledger_.current().facts;
    now.target.path = alloc::recordable_path(target->path());
    now.target.size_bytes = target->size_bytes();
  }
  volume_.arm(facts.source.devid, target, rule_, facts.target.uuid);
  Lock lock(mutex_);
  duplicating_ = true;
  return ok();
}

}  // namespace moltfs::replace
