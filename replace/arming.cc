// SPDX-License-Identifier: MIT
// Arming: for a new replace, for one that was suspended, and at mount.
//
// Faults at each step of a start, and what they leave:
//   checks                     nothing was written: only the error
//   discard, superblock        the target's superblocks are wiped; the record says "failed"
//   map published, drain       the same, after the map is plain again and drained
//   commit                     the same, and one more commit, since the record "armed" may be
//                              durable. A crash before that: the mount finds no target and leaves
//                              the replace suspended, for the user to cancel.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/base/uuid.h"
#include "replace/engine_impl.h"
#include "replace/target_check.h"

namespace moltfs::replace {

Result<void> Engine::Impl::arm_new(const StartRequest& request) {
  Record candidate;
  Result<void> armed = ok();
  CheckedTarget checked;
  auto check = [&]() -> Result<void> {
    TRY(auto source, find_source(volume_, request.source));
    TRY(checked, check_target(volume_, source, request.target, request.force));
    Status& facts = candidate.facts;
    facts.state = State::armed;
    facts.source = std::move(source);
    facts.target = {facts.source.devid, Uuid::generate(volume_.runtime()),
                    checked.device->size_bytes(), alloc::recordable_path(checked.device->path())};
    facts.started = wall_seconds();
    return ok();
  };
  armed = check();
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
  if (armed) return ok();
  fail_start(disarm_failed(), armed.error(), checked.device);
  return armed;
}

Result<void> Engine::Impl::arm(const alloc::DeviceEntry& source,
                               std::shared_ptr<alloc::Device> target) {
  {
    Lock lock(mutex_);
    target_ = target;
  }
  const uint64_t size = target->size_bytes();
  const std::string path = target->path();
  volume_.arm(source.devid, std::move(target), rule_);
  // From here on no chunk is made that would not fit; one may have been since the check.
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

Record Engine::Impl::disarm_failed() {
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

void Engine::Impl::fail_start(const Record& candidate, const Error& error,
                              const std::shared_ptr<alloc::Device>& target) {
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
  if (sealed) {
    auto committed = host_.commit();
    if (!committed) log_warning("replace: {}", committed.error().message());
  }
  auto wiped = alloc::wipe_superblocks(volume_.engine(), *target);
  if (!wiped) log_warning("{}: not wiped: {}", target->path(), wiped.error().message());
  Lock lock(mutex_);
  set_activity(Activity::idle);
}

Result<void> Engine::Impl::arm_again() {
  // What a fault before run() has left.
  volume_.disarm();
  Record candidate;
  std::vector<std::string> hints;
  {
    Lock lock(mutex_);
    hints = hints_;
    target_.reset();
    duplicating_ = false;
    candidate = ledger_.record();
  }
  Status& facts = candidate.facts;
  std::shared_ptr<alloc::Device> target;
  auto find = [&]() -> Result<void> {
    TRY(target, find_target(volume_, facts.target, hints, true));
    return check_size(volume_, facts.source, target->path(), target->size_bytes());
  };
  auto armed = find();
  if (armed) {
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
    armed = arm(facts.source, target);
    if (armed) return ok();
    const Record failed = disarm_failed();
    Lock lock(mutex_);
    ledger_.current().facts.errors = failed.facts.errors;
    ledger_.current().facts.reason = reason_for(armed.error().message());
  }
  // The record "copying" may be durable already: harmless, but not what is so.
  if (target) {
    auto committed = host_.commit();
    if (!committed) log_warning("replace: {}", committed.error().message());
  }
  Lock lock(mutex_);
  set_activity(Activity::idle);
  return armed;
}

// ---- At mount

bool Engine::Impl::swap_has_happened(const Record& record) const {
  for (const alloc::DeviceEntry& entry : volume_.devices()) {
    if (entry.uuid == record.facts.target.uuid) return true;
  }
  return false;
}

Result<void> Engine::Impl::restore(const std::vector<std::string>& hints, bool read_only) {
  const alloc::Superblock superblock = volume_.superblock();
  Lock lock(mutex_);
  read_only_ = read_only_ || read_only;
  hints_ = hints;
  auto decoded = decode_record(superblock.replace_payload);
  if (!decoded) {
    // A record that cannot be read must not keep a volume from being mounted: the source is whole.
    log_warning("{}; it is dropped", decoded.error().message());
    return ok();
  }
  Record record = std::move(decoded.value());
  const std::string& reason = record.facts.reason;
  lost_ = reason.substr(std::min(reason.find(kLost), reason.size()));
  if (!in_progress(record.facts.state)) {
    ledger_ = Ledger(std::move(record), superblock.generation);
    return ok();
  }
  if (swap_has_happened(record)) {
    record.coverage = Coverage();
    record.facts.state = State::finished;
    record.facts.ended = wall_seconds();
    ledger_ = Ledger(std::move(record), superblock.generation);
    return ok();
  }
  // What came back by the fsync log the target may lack (alloc/disk/log_batch.h): a gap, and the walk
  // begins anew.
  if (record.coverage.open() && volume_.first_generation() > superblock.generation + 1) {
    record.coverage.disarm(superblock.generation);
    record.coverage.arm(volume_.first_generation());
    record.facts.cursor_left = PhysicalOffset();
  }
  ledger_ = Ledger(std::move(record), superblock.generation);
  committed_cursor_ = ledger_.record().facts.cursor_left;
  duplicated_before_ = ledger_.record().facts.bytes_duplicated;
  std::string obstacle;
  if (read_only_) {
    obstacle = "the volume is mounted read-only";
  } else {
    lock.unlock();
    volume_.set_pending_swap(std::nullopt);
    auto armed = restore_target();
    if (!armed) obstacle = armed.error().message();
    lock.lock();
  }
  if (obstacle.empty()) return ok();
  log_warning("replace: suspended: {}", obstacle);
  if (ledger_.fault()) ledger_.current().facts.reason = reason_for(obstacle);
  return ok();
}

Result<void> Engine::Impl::restore_target() {
  alloc::DeviceEntry source, entry;
  std::vector<std::string> hints;
  {
    Lock lock(mutex_);
    hints = hints_;
    source = ledger_.record().facts.source;
    entry = ledger_.record().facts.target;
  }
  TRY(auto target, find_target(volume_, entry, hints, true));
  TRY(check_size(volume_, source, target->path(), target->size_bytes()));
  {
    Lock lock(mutex_);
    target_ = target;
    Status& facts = ledger_.current().facts;
    facts.target.path = alloc::recordable_path(target->path());
    facts.target.size_bytes = target->size_bytes();
  }
  volume_.arm(source.devid, std::move(target), rule_);
  Lock lock(mutex_);
  duplicating_ = true;
  return ok();
}

}  // namespace moltfs::replace
