// SPDX-License-Identifier: MIT
// The replace engine: gives the place of one device of the volume (the source) to a new device (the
// target) while the filesystem is in use. README.md tells the story: the race, the protocol step by
// step, the states. Here are the rules that the code must keep.
//
// A *rejoin* is the same with a device of the volume that was out and comes back: it is source and
// target. Only what it missed is copied, from other copies; the swap makes it a member again.
//
// Invariants:
//   R1  While armed, every write to the source goes to the target as well, wherever the cursor is.
//       The mapper has no access to the cursor.
//   R2  Everything born in generation G0 or later was written under duplication.
//   R3  The copier writes only what was born before G0 and is not covered: it writes nothing twice
//       and nothing that the target has already.
//   R4  A write of the copier never overwrites newer data.
//   R5  Nothing durable claims data that the target has not flushed.
//   R6  At the swap, everything that the committed state reaches is on the target, but for blocks
//       that could not be read and whose loss the user has accepted.
//   R9  A device that comes back is believed to hold what was born until it went out only if its
//       superblock says that it is as it was left, or was a target since (target.cc).
//   R7  After a power cut at any request, the volume mounts and the replace continues.
//   R8  A fault of the target never reaches the user; only the status shows it.
//
// What happens to the copy if, meanwhile,
//   a chunk under the copier is removed    freeze_stripe finds another chunk or none: it is skipped
//   a chunk is made                        it is born under duplication, and so covered
//   a block in a frozen window is freed    it is copied needlessly; that is harmless, because it
//                                          cannot be allocated again before the thaw
//   the machine crashes                    see R5 and R7
//
// Concurrency: one mutex guards the engine's state (ledger, walk, activity). It is never held
// across I/O, a wait, or a call of Host or Volume that does either. It is locked inside the
// critical section of fs (on_seal), and the locks of Space are locked inside it; nothing else
// nests. start(), online(), offline(), resume() and cancel() do their work in the calling task and
// may wait long. Call them from any task but those of Background: the copy runs there, and they may
// have to wait for it. target_fault() may come from any task. It closes the ledger and publishes
// the plain map; the rest of a suspension follows when the copy has ended. Work that runs out of
// memory suspends the replace (contain.h); a fault of the target is noted even if that has to wait
// for memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/background.h"
#include "alloc/volume/volume.h"
#include "replace/copier.h"
#include "replace/host.h"
#include "replace/ledger.h"
#include "replace/pace.h"
#include "replace/rate.h"
#include "replace/status.h"
#include "replace/walk.h"

namespace moltfs::replace {

struct FoundTarget;
struct ReturningDevice;

class Engine final : public alloc::CommitHook {
 public:
  struct Options {
    uint64_t window_bytes = 1 << 20;
    unsigned windows_in_flight = 16;  ///< fewer while programs use the filesystem (pace.h)
    /// A crash costs at most what was copied since the cursor was last made durable. A commit makes
    /// it durable each `commit_interval` and each `commit_bytes`; at `max_undurable_bytes` the
    /// copier waits for it.
    Nanoseconds commit_interval = std::chrono::seconds(5);
    uint64_t commit_bytes = 16 << 20, max_undurable_bytes = 64 << 20;
    /// What could not be read is read again after the copy, each time after such a pause.
    std::vector<Nanoseconds> retry_pauses = {std::chrono::seconds(1), std::chrono::seconds(5),
                                             std::chrono::seconds(14)};
    /// Which writes are duplicated. None given: all of them. Tests give others.
    std::shared_ptr<const alloc::DuplicationRule> rule;
  };

  Engine(alloc::Volume& volume, Host& host, Background& background, const Options& options);
  ~Engine() override;

  /// At mount, before the first write: reads the record in the superblock. If a replace was in
  /// progress, finds the target (at the recorded path, then at `hints`, then among all devices;
  /// checked by uuid) and arms. A target that is missing or broken leaves the replace suspended.
  /// Copying begins with run().
  Result<void> restore(const std::vector<std::string>& hints, bool read_only);
  void run();
  /// At unmount: starts no new windows and returns when those in flight are done. Commits if the
  /// cursor moved.
  void stop();

  struct StartRequest {
    std::string source;  ///< devid, path or uuid
    std::string target;  ///< path
    bool force = false;  ///< overwrite a foreign signature
    /// Opens the target; null: the volume's.
    alloc::DeviceOpener* opener = nullptr;
  };
  /// Returns when armed; the copy goes on in the background. Errors, each with a sentence and
  /// nothing changed: bad_target (too small, already a member, the source itself), device_in_use,
  /// device_read_only, foreign_signature, not_found, replace_running, read_only, busy while
  /// unmounting.
  Result<void> start(const StartRequest& request);
  struct OnlineRequest {
    std::string device;  ///< devid or uuid; not needed if there is a path
    std::string path{};  ///< empty: the recorded path, the hints of the mount and all devices
    bool force = false;  ///< copy everything if what the device holds cannot be used
    /// Opens `path`; null: the volume's.
    alloc::DeviceOpener* opener = nullptr;
  };
  /// A device that is out comes back. Returns when armed; what it missed is copied in the
  /// background. With `force`, a device whose content cannot be used replaces itself and gets a new
  /// uuid. Errors, each with a sentence and nothing changed: not_found, invalid_argument (it is not
  /// out), bad_target (it has gone on by itself or was put back from an older copy, is too small,
  /// is another device), device_in_use, device_read_only, replace_running, read_only, busy while
  /// unmounting.
  Result<void> online(const OnlineRequest& request);
  /// Puts a device (devid, path or uuid) out on purpose. Returns when that is durable. Nothing
  /// happens if it is out. Errors, with a sentence: not_found, invalid_argument (it has the only copy of
  /// something), read_only, busy while unmounting, and those of a commit.
  Result<void> offline(const std::string& device);
  /// Returns when armed again. `accept_loss`: blocks that are known to be unreadable now, and still
  /// are after one more attempt, do not keep the replace from finishing. Errors: no_replace if none
  /// is suspended, read_only, busy, and those of finding the target.
  Result<void> resume(bool accept_loss = false);
  /// Errors: no_replace if none runs or is suspended, read_only, busy, and those of a commit.
  Result<void> cancel();
  Status status() const;
  /// What the source has (or had) and the target lacks, because it could not be read.
  struct Unreadable {
    std::string where;   ///< Host::name_of
    uint64_t bytes = 0;  ///< from there on; neighbours that were read may be among them
  };
  /// (waits) At most `limit` places, by their place on the source. What was deleted or written anew
  /// since is left out. Errors: those of Host::allocated_in.
  Result<std::vector<Unreadable>> unreadable(size_t limit);
  /// Waits until no replace is in progress, or until `stop` returns true (asked each 100 ms).
  Status wait(const std::function<bool()>& stop);

  // alloc::CommitHook
  void on_seal(Generation closing) override;
  std::vector<std::byte> on_flushed(Generation closing, bool target_flushed) override;
  void on_durable(Generation closed) override;
  void target_fault(alloc::IoOp op, const Error& error) override;
  bool duplication_stands() override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  /// The part of the reason that names a lost block begins with this and comes last, so that the
  /// next mount finds it again.
  static constexpr std::string_view kLost = "first unreadable block: ";

  /// What the engine is doing. One activity at a time; a task claims it under the mutex. (State is
  /// what users and the record see.)
  ///
  ///   idle    -> arming      start(), resume(), or run() after restore()
  ///   arming  -> copying     armed
  ///   arming  -> idle        arming failed, stop(), cancel()
  ///   copying -> finishing   all windows are done
  ///   copying, finishing -> idle                  stop(), or cancel(), which then claims cancelling
  ///   arming, copying, finishing -> suspending    duplication broke
  ///   finishing, suspending, cancelling -> idle   done
  enum class Activity : uint8_t { idle, arming, copying, finishing, suspending, cancelling };

  // ---- engine.cc
  void set_activity(Activity activity);  // REQUIRES: mutex_
  /// Waits out a suspension or a cancel, which end soon. Errors: busy while unmounting, read_only.
  Result<void> wait_for_turn(Lock& lock);
  std::string describe_running() const;  // REQUIRES: mutex_
  /// Starts a coroutine that halt() waits for.
  void spawn(asio::awaitable<void> coroutine);
  asio::awaitable<void> owned(asio::awaitable<void> coroutine);
  /// Ends all coroutines without touching a device.
  void halt();
  /// Commits. A failure is only logged.
  void commit_or_warn();
  /// Ends duplication for `reason`: the plain map is published now, finish_suspension() follows.
  void suspend(const std::string& reason);
  std::string reason_for(const std::string& what) const;
  int64_t wall_seconds() const;
  Walk::UsedBytes used_bytes() const;
  void update_totals();  // REQUIRES: mutex_

  /// Runs a command that has claimed the activity.
  Result<void> give_up_if_thrown(const std::function<Result<void>()>& command);
  /// Claims the activity for a new replace, arms by `arming`, and begins the copy.
  Result<void> begin_new(const std::function<Result<void>()>& arming);
  void note_target_fault(alloc::IoOp op, const Error& error);
  /// After work has ended by an exception: `error`. Suspends the replace, or gives the arming up.
  /// Waits for the little memory that this needs. Afterwards the activity is idle.
  void give_up_for(const Error& error) noexcept;
  /// The same for a part of the copy: the part that ends last makes the activity idle.
  void suspend_for(const Error& error) noexcept;

  // ---- engine_arm.cc
  Result<void> arm_new(const StartRequest& request);
  Result<void> arm_online(const OnlineRequest& request);
  Result<void> arm_returning(const ReturningDevice& returning);
  Result<void> arm_again(bool accept_loss);
  Result<void> arm_with(Record candidate, std::shared_ptr<alloc::Device> target);
  /// Publishes the map, drains, commits. REQUIRES: ledger_.begin_arming() was called.
  Result<void> arm(const alloc::DeviceEntry& source, std::shared_ptr<alloc::Device> target);
  /// Takes back what arm() has done. Returns the record that was to be armed.
  Record disarm_failed();
  void fail_start(const Record& candidate, const Error& error, alloc::Device& target);
  void take_over(Record record, Generation durable);  // REQUIRES: mutex_
  bool swap_has_happened(const Record& record) const;
  Result<FoundTarget> find_recorded_target(const Status& facts);
  /// A sentence if the target is older than what `record` claims of it: then nothing of that holds.
  std::optional<std::string> is_older_copy(const Record& record, const FoundTarget& target) const;
  void copy_anew();  // REQUIRES: mutex_, duplication is off
  std::vector<std::string> hints() const;
  Result<void> restore_target();

  // ---- engine_copy.cc
  void begin_copy();
  Result<void> begin_copy_or_suspend();
  void start_walk();  // REQUIRES: mutex_
  PhysicalOffset end_of_source(DeviceId source) const;
  /// What a copy slot does next. Nothing set: the slot ends.
  struct Step {
    std::optional<PhysicalRange> window;
    bool commit = false;
    bool shared = false;  // programs use the filesystem: rest after the window
    Nanoseconds wait{0};
  };
  Step next_step();
  /// Why a copy slot leaves its worker.
  struct Pause {
    Nanoseconds time{0};
    bool is_rest = false;  // the slot counts as busy while it rests
    bool ends = false;
  };
  Pause copy_windows(Bytes buffer);
  Pause copy_windows_or_suspend(Bytes buffer) noexcept;
  void commit_now();
  void commit_now_or_suspend() noexcept;
  void window_done(PhysicalRange window, const WindowResult& result);
  bool gave_up() const;   // cancelled, or duplication broke
  bool must_end() const;  // that, or unmounting; REQUIRES: mutex_
  unsigned slot_count() const;
  size_t slot_bytes() const;
  asio::awaitable<void> copy_slot(Bytes buffer);
  asio::awaitable<void> run_slot(Bytes buffer);
  asio::awaitable<void> end_walk();
  void note_unreadable(const WindowResult& result);  // REQUIRES: mutex_

  // ---- engine_retry.cc
  asio::awaitable<void> retry_unreadable();
  asio::awaitable<bool> pause_before_retry(Nanoseconds pause);
  void read_holes_again();
  bool read_hole_again(Copier& copier, PhysicalRange hole, Bytes buffer);
  std::vector<PhysicalRange> windows_of(PhysicalRange hole) const;
  /// Suspends if there are holes whose loss the user has not accepted. True if there are.
  bool stop_at_holes();
  asio::awaitable<void> commit_cursor(uint64_t walk_number);
  void end_copy();
  void end_copy_or_suspend() noexcept;

  // ---- engine_finish.cc
  enum class Announced : uint8_t { yes, interrupted, duplication_broke };
  void finish();
  Result<Generation> commit_patiently();
  Announced announce_swap();
  bool swap();
  void release_source();
  void finish_suspension();
  Result<void> undo();
  /// Adds what the volume has duplicated since the last arming to the record.
  void collect_duplicated();

  alloc::Volume& volume_;
  Host& host_;
  Background& background_;
  const Options options_;
  const std::shared_ptr<const alloc::DuplicationRule> rule_;

  mutable std::mutex mutex_;            // guards all below
  std::unique_ptr<WaitQueue> changed_;  // activity_, coroutines_, swap_outcome_, a fault
  Activity activity_ = Activity::idle;
  bool read_only_ = false, stopping_ = false, cancel_requested_ = false;
  unsigned coroutines_ = 0;

  Ledger ledger_;
  std::vector<std::string> hints_;         // where the target may be, from the mount
  std::shared_ptr<alloc::Device> target_;  // while armed
  std::string lost_;                       // what `reason` says about the first unreadable block
  bool duplicating_ = false;               // the volume counts duplicated bytes for us
  uint64_t duplicated_before_ = 0;         // in earlier armings of this replace
  std::optional<alloc::SwapOutcome> swap_outcome_;

  // The copy.
  std::shared_ptr<Copier> copier_;
  std::optional<Walk> walk_;  // while copying and finishing
  uint64_t walk_number_ = 0;
  unsigned slots_ = 0;         // copy slots that have not ended
  unsigned busy_slots_ = 0;    // that copy or rest
  AlignedBuffer slot_memory_;  // of all slots; one piece of memory, for huge pages
  Pace pace_;
  Rate rate_;

  // What a commit makes durable: the cursor and Walk::copied_left(), of the last durable record
  // (committed) and of the commit under way (sealed).
  bool committing_ = false;  // a slot or commit_cursor() commits
  PhysicalOffset committed_cursor_, sealed_cursor_;
  uint64_t committed_copied_ = 0, sealed_copied_ = 0, sealed_walk_number_ = 0;
};

}  // namespace moltfs::replace
