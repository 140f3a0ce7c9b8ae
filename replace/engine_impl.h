// SPDX-License-Identifier: MIT
// The inside of Engine, shared by engine.cc (doors, hook), walking.cc (the copy), arming.cc and
// finishing.cc (swap, suspension, cancel).
//
// At any time at most one *activity* is under way; who wants to begin one claims it under the
// mutex. States are for users and the record, activities are for us:
//
//   idle      -> arming      start(), resume()      -> walking, or idle if it failed
//   idle      -> walking     run() after restore()
//   walking   -> finishing   all windows done       -> idle (finished), or settling
//   walking   -> settling    duplication broke      -> idle (suspended)
//   walking   -> idle        stop(), or cancel() which then claims
//   idle      -> cancelling  cancel()               -> idle (cancelled)
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replace/copier.h"
#include "replace/engine.h"
#include "replace/ledger.h"
#include "replace/pace.h"
#include "replace/rate.h"
#include "replace/walk.h"

namespace moltfs::replace {

/// Begins what the reason says of a lost block, last in it; so it is found again after a mount.
inline constexpr std::string_view kLost = "no copy could be read: ";

class Engine::Impl {
 public:
  Impl(alloc::Volume& volume, Host& host, Background& background, const Options& options);
  /// Ends all coroutines without touching a device.
  void halt();

  Result<void> restore(const std::vector<std::string>& hints, bool read_only);
  void run();
  void stop();
  Result<void> start(const StartRequest& request);
  Result<void> resume();
  Result<void> cancel();
  Status status() const;
  Status wait(const std::function<bool()>& stop);

  void on_seal(Generation closing);
  std::vector<std::byte> on_flushed(bool target_flushed);
  void on_durable(Generation closed);
  void target_fault(alloc::IoOp op, const Error& error);
  bool duplication_stands();

 private:
  enum class Activity : uint8_t { idle, arming, walking, finishing, settling, cancelling };
  using Lock = std::unique_lock<std::mutex>;
  using Body = std::function<Result<void>()>;

  // ---- engine.cc
  void set_activity(Activity activity);  // REQUIRES: mutex_
  /// Waits out what will end by itself and soon. Errors: busy while unmounting, read_only.
  Result<void> wait_for_turn(Lock& lock);
  std::string describe_running() const;  // REQUIRES: mutex_
  void spawn(asio::awaitable<void> coroutine);
  asio::awaitable<void> owned(asio::awaitable<void> coroutine);
  /// Runs `body` on a worker; the calling task waits for its result.
  Result<void> perform(Body body);
  asio::awaitable<void> run_body(Body body, std::shared_ptr<std::optional<Result<void>>> result);
  /// Duplication ends, for `reason`: the map at once, the rest in settle().
  void suspend(const std::string& reason);
  void begin_settling();
  int64_t wall_seconds() const;
  Walk::UsedBytes used_bytes() const;
  void update_totals();  // REQUIRES: mutex_

  // ---- arming.cc: on a worker, but for restore_*.
  Result<void> arm_new(const StartRequest& request);
  Result<void> arm_again();
  /// Publish, drain, commit. REQUIRES: ledger_.begin_arming() was done.
  Result<void> arm(const alloc::DeviceEntry& source, std::shared_ptr<alloc::Device> target);
  /// Takes back what arm() has done.
  Record disarm_failed();
  void fail_start(const Record& candidate, const Error& error,
                  const std::shared_ptr<alloc::Device>& target);
  bool swap_has_happened(const Record& record) const;
  Result<void> restore_target();

  // ---- walking.cc
  void begin_walk();
  /// What a lane is to do next; nothing of it: to end.
  struct Step {
    std::optional<PhysicalRange> window;
    bool commit = false;
    bool shared = false;  // programs are at work: rest after the window
    Nanoseconds wait{0};
  };
  Step next_step();
  /// Why a lane comes back from its work.
  struct Pause {
    Nanoseconds time{0};
    bool is_rest = false;  // it keeps its turn meanwhile
    bool ends = false;
  };
  Pause copy_windows(Bytes buffer);
  void commit_now();
  void window_done(PhysicalRange window, const WindowResult& result);
  bool gave_up() const;   // cancelled, or duplication broke
  bool must_end() const;  // that, or unmounting; REQUIRES: mutex_
  size_t lane_bytes() const;
  asio::awaitable<void> lane(Bytes buffer);
  asio::awaitable<void> commit_cursor(uint64_t walk_number);
  void after_walk();

  // ---- finishing.cc: on a worker.
  void finish();
  bool announce_swap();
  void swap();
  void finished();
  void settle();
  Result<void> undo();
  void collect_duplicated();
  std::string reason_for(const std::string& what) const;

  alloc::Volume& volume_;
  Host& host_;
  Background& background_;
  const Options options_;
  const std::shared_ptr<const alloc::DuplicationRule> rule_;

  mutable std::mutex mutex_;
  std::unique_ptr<WaitQueue> changed_;  // activities, coroutines, results
  Ledger ledger_;                       // guarded by mutex_, as all below
  Activity activity_ = Activity::idle;
  std::vector<std::string> hints_;  // where the target may be, from the mount
  bool read_only_ = false, stopping_ = false, cancel_requested_ = false;
  unsigned coroutines_ = 0, lanes_ = 0, lanes_at_work_ = 0;
  AlignedBuffer lane_memory_;  // while there are lanes; one piece of memory, for huge pages
  Pace pace_;
  uint64_t walk_number_ = 0;
  std::shared_ptr<alloc::Device> target_;  // while armed
  std::shared_ptr<Copier> copier_;         // while walking
  std::optional<Walk> walk_;               // while walking and finishing
  PhysicalOffset committed_cursor_;        // of the last durable record
  PhysicalOffset sealed_cursor_;
  bool committing_ = false;                              // by a lane
  uint64_t committed_copied_ = 0;                        // Walk::copied_left() of the same
  uint64_t sealed_copied_ = 0, sealed_walk_number_ = 0;  // of the commit under way
  Rate rate_;
  bool duplicating_ = false;        // Volume counts duplicated bytes for us
  uint64_t duplicated_before_ = 0;  // in earlier armings of this replace
  std::string lost_;                // what the reason says of the first block that is lost
  std::optional<alloc::SwapOutcome> swap_outcome_;
};

}  // namespace moltfs::replace
