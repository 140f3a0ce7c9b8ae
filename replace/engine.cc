// SPDX-License-Identifier: MIT
// The engine's commands, its commit hook, and how its activities take turns.
#include "replace/engine.h"

#include <fmt/format.h>

#include "alloc/base/assert.h"
#include "alloc/base/contain.h"
#include "alloc/base/log.h"

namespace moltfs::replace {

namespace {

constexpr Nanoseconds kPollInterval = std::chrono::milliseconds(100);

std::string_view name_of(alloc::IoOp op) {
  return op == alloc::IoOp::flush ? "a flush" : "a write";
}

std::shared_ptr<const alloc::DuplicationRule> rule_or_default(const Engine::Options& options) {
  if (options.rule) return options.rule;
  return std::make_shared<const alloc::DuplicateEverything>();
}

}  // namespace

Engine::Engine(alloc::Volume& volume, Host& host, Background& background, const Options& options)
    : volume_(volume),
      host_(host),
      background_(background),
      options_(options),
      rule_(rule_or_default(options)),
      changed_(volume.runtime().make_wait_queue()),
      read_only_(volume.read_only()) {
  volume_.set_hook(this);
}

Engine::~Engine() {
  halt();
  volume_.set_hook(nullptr);
}

// ---- Taking turns

void Engine::set_activity(Activity activity) {
  activity_ = activity;
  changed_->notify_all();
}

Result<void> Engine::wait_for_turn(Lock& lock) {
  changed_->wait(
      lock, [&] { return activity_ != Activity::suspending && activity_ != Activity::cancelling; });
  if (stopping_) return Error(Errc::busy, "the filesystem is being unmounted");
  if (read_only_) return Error(Errc::read_only, "the volume is mounted read-only");
  return ok();
}

std::string Engine::describe_running() const {
  const Status& facts = ledger_.current().facts;
  const std::string_view doing =
      activity_ == Activity::arming ? "being armed" : replace::name_of(facts.state);
  if (facts.rejoin) {
    return fmt::format("the rejoin of devid {} ({}) is {}", facts.target.devid.value,
                       facts.target.path, doing);
  }
  return fmt::format("the replace of devid {} ({}) by {} is {}", facts.source.devid.value,
                     facts.source.path, facts.target.path, doing);
}

void Engine::spawn(asio::awaitable<void> coroutine) {
  {
    Lock lock(mutex_);
    ++coroutines_;
  }
  try {
    background_.start(owned(std::move(coroutine)));
  } catch (...) {
    Lock lock(mutex_);
    --coroutines_;
    throw;
  }
}

asio::awaitable<void> Engine::owned(asio::awaitable<void> coroutine) {
  co_await std::move(coroutine);
  Lock lock(mutex_);
  --coroutines_;
  changed_->notify_all();
}

int64_t Engine::wall_seconds() const {
  return volume_.runtime().wall_clock().tv_sec;
}

Walk::UsedBytes Engine::used_bytes() const {
  return [this](LogicalOffset chunk) { return volume_.space().used_bytes(chunk); };
}

void Engine::commit_or_warn() {
  const auto committed = host_.commit();
  if (!committed) log_warning("replace: {}", committed.error().message());
}

// ---- Commands

void Engine::halt() {
  {
    Lock lock(mutex_);
    stopping_ = true;
  }
  // Posted, so that a coroutine which has just read stopping_ is asleep by then.
  background_.post([&background = background_] { background.wake_sleepers(); });
  Lock lock(mutex_);
  changed_->wait(lock, [&] { return coroutines_ == 0 && activity_ == Activity::idle; });
}

void Engine::stop() {
  halt();
  bool cursor_moved = false;
  {
    Lock lock(mutex_);
    const Status& facts = ledger_.record().facts;
    cursor_moved = in_progress(facts.state) && facts.cursor_left != committed_cursor_;
  }
  if (cursor_moved) commit_or_warn();
}

Result<void> Engine::begin_new(const std::function<Result<void>()>& arming) {
  {
    Lock lock(mutex_);
    TRY(wait_for_turn(lock));
    const State state = ledger_.current().facts.state;
    if (activity_ != Activity::idle || in_progress(state)) {
      return Error(Errc::replace_running, describe_running());
    }
    if (state == State::suspended) {
      return Error(Errc::replace_running, describe_running() + ": resume or cancel it first");
    }
    cancel_requested_ = false;
    set_activity(Activity::arming);
  }
  TRY(give_up_if_thrown(arming));
  return begin_copy_or_suspend();
}

Result<void> Engine::start(const StartRequest& request) {
  return begin_new([&] { return arm_new(request); });
}

Result<void> Engine::online(const OnlineRequest& request) {
  return begin_new([&] { return arm_online(request); });
}

Result<void> Engine::resume(bool accept_loss) {
  {
    Lock lock(mutex_);
    TRY(wait_for_turn(lock));
    const State state = ledger_.record().facts.state;
    if (activity_ != Activity::idle || state != State::suspended) {
      const bool running = activity_ != Activity::idle || in_progress(state);
      return Error(Errc::no_replace, running ? "nothing to resume: " + describe_running()
                                             : "no replace is suspended");
    }
    cancel_requested_ = false;
    set_activity(Activity::arming);
  }
  TRY(give_up_if_thrown([&] { return arm_again(accept_loss); }));
  return begin_copy_or_suspend();
}

Result<void> Engine::cancel() {
  {
    Lock lock(mutex_);
    TRY(wait_for_turn(lock));
    while (activity_ != Activity::idle) {
      cancel_requested_ = true;
      changed_->wait(lock);
    }
    cancel_requested_ = false;
    if (stopping_) return Error(Errc::busy, "the filesystem is being unmounted");
    const State state = ledger_.record().facts.state;
    if (!in_progress(state) && state != State::suspended) {
      return Error(Errc::no_replace, state == State::none
                                         ? std::string("no replace is running")
                                         : fmt::format("no replace is running; the last one is {}",
                                                       replace::name_of(state)));
    }
    set_activity(Activity::cancelling);
  }
  return give_up_if_thrown([&] { return undo(); });
}

void Engine::update_totals() {
  if (!walk_) return;
  Status& facts = ledger_.current().facts;
  facts.bytes_total = facts.bytes_copied + walk_->remaining_bytes(used_bytes());
}

Status Engine::status() const {
  Lock lock(mutex_);
  Status status = ledger_.record().facts;
  if (duplicating_ && in_progress(status.state)) {
    status.bytes_duplicated = duplicated_before_ + volume_.duplicated_bytes();
  }
  if (walk_ && in_progress(status.state)) {
    const uint64_t remaining = walk_->remaining_bytes(used_bytes());
    status.bytes_total = status.bytes_copied + remaining;
    status.rate = rate_.per_second(volume_.runtime().now());
    if (remaining == 0) {
      status.eta_seconds = 0;
    } else if (status.rate > 0) {
      status.eta_seconds = (remaining + status.rate - 1) / status.rate;
    }
  }
  // The source is still open.
  if (activity_ == Activity::finishing && status.state == State::finished) {
    status.state = State::finishing;
  }
  return status;
}

Status Engine::wait(const std::function<bool()>& stop) {
  while (!stop()) {
    Lock lock(mutex_);
    if (activity_ == Activity::idle && !in_progress(ledger_.record().facts.state)) break;
    if (stopping_) break;
    changed_->wait_for(lock, kPollInterval);
  }
  return status();
}

// ---- Commit hook (see ledger.h)

void Engine::on_seal(Generation closing) {
  Lock lock(mutex_);
  if (duplicating_ && ledger_.standing()) {
    ledger_.current().facts.bytes_duplicated = duplicated_before_ + volume_.duplicated_bytes();
  }
  ledger_.on_seal(closing);
  sealed_cursor_ = ledger_.record().facts.cursor_left;
  sealed_copied_ = walk_ ? walk_->copied_left() : 0;
  sealed_walk_number_ = walk_number_;
}

std::vector<std::byte> Engine::on_flushed(Generation, bool target_flushed) {
  bool unexpected = false;
  {
    Lock lock(mutex_);
    unexpected = !target_flushed && ledger_.record().coverage.open();
  }
  if (unexpected) suspend("the target was not flushed");
  Lock lock(mutex_);
  return ledger_.on_flushed(target_flushed);
}

void Engine::on_durable(Generation closed) {
  Lock lock(mutex_);
  ledger_.on_durable(closed);
  committed_cursor_ = sealed_cursor_;
  if (sealed_walk_number_ == walk_number_) committed_copied_ = sealed_copied_;
}

bool Engine::duplication_stands() {
  Lock lock(mutex_);
  return ledger_.standing();
}

// ---- Faults

void Engine::target_fault(alloc::IoOp op, const Error& error) {
  insist(volume_.runtime(), [&] { note_target_fault(op, error); });
}

void Engine::note_target_fault(alloc::IoOp op, const Error& error) {
  std::string reason;
  {
    Lock lock(mutex_);
    Status& facts = ledger_.current().facts;
    if (!ledger_.standing() && facts.state != State::suspended) return;
    ++(op == alloc::IoOp::flush ? facts.errors.target_flush : facts.errors.target_write);
    if (!ledger_.standing()) return;
    reason = fmt::format("{} of the target {} failed: {}", name_of(op), facts.target.path,
                         error.message());
  }
  suspend(reason);
}

Result<void> Engine::give_up_if_thrown(const std::function<Result<void>()>& command) {
  try {
    return command();
  } catch (...) {
    Error error = error_of_exception();
    give_up_for(error);
    return error;
  }
}

void Engine::give_up_for(const Error& error) noexcept {
  insist(volume_.runtime(), [&] {
    bool arming = false;
    {
      Lock lock(mutex_);
      arming = ledger_.arming();
    }
    if (arming) {
      disarm_failed();
      log_warning("replace: it cannot be armed: {}", error.message());
    }
    suspend(error.message());
    finish_suspension();
  });
}

void Engine::suspend_for(const Error& error) noexcept {
  insist(volume_.runtime(), [&] { suspend(error.message()); });
}

void Engine::suspend(const std::string& reason) {
  {
    Lock lock(mutex_);
    if (!ledger_.standing()) return;
    ledger_.current().facts.reason = reason_for(reason);
    ledger_.fault();
    changed_->notify_all();
  }
  volume_.disarm_soon();
  log_warning("replace: duplication is off: {}", reason);
}

/// `what`, and which block is lost: a walk that resumes does not read that block again.
std::string Engine::reason_for(const std::string& what) const {
  return (lost_.empty() ? what : what + "; " + lost_).substr(0, kMaxReasonBytes);
}

}  // namespace moltfs::replace
