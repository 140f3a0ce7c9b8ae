// SPDX-License-Identifier: MIT
// The replace engine: puts a new device (the target) into the place of another (the source) while
// the filesystem on it is in use.
//
//                 start                  all windows done              swap durable
//   none/finished ------> arming -> copying ------> finishing -----------------> finished
//   cancelled/failed        |          |  ^             |  (target fault)
//                           | fault    |  | resume      v
//                           v          +--+------ suspended
//                         failed       fault         |
//                                      cancel (also from copying) -> cancelled
//
// The rule (R1): while armed, every write for the source goes to the target as well, wherever the
// cursor stands. So the copier needs to bring over only what was born before, and the cursor is
// for progress and for resuming, nothing else.
//
// arm     check target -> discard it -> superblock "target of devid N" -> map with duplication ->
//         drain guards -> a whole commit C. Next generation is G0: everything born from G0 on is on
//         the target (R2). If duplication breaks before C is durable, arming has failed.
//         (arming.cc, target_check.h)
// copy    windows of the source's device extents in the committed chunk table, upward, several in
//         flight. For each: freeze (chunk looked up in the same step), list what is allocated in
//         the running trees, drop what Coverage covers, read, verify, write, thaw (R3, R4).
//         (walk.h, copier.h)
// cursor  left edge of the first unfinished window; durable by a commit, captured when that commit
//         is sealed, and so before its flush of the target (R5). (ledger.h)
// finish  commit with pending_swap; then a commit that swaps (alloc/volume/volume.h) (R6); drain; close
// the
//         source, whose superblocks then say "replaced by ...". (finishing.cc)
// suspend a fault of the target never reaches the user (R8): the map becomes plain, Coverage is cut
//         to the last durable generation, the reason is kept. resume() arms again and copies the
//         gap.
// stop    unmount: windows in flight are finished, nothing else changes; restore() at the next
// mount
//         arms before the first write (R7).
//
// What if, meanwhile ...
//   a chunk is removed under the copier: freeze_stripe finds another or none: skipped;
//   a chunk is made: born under duplication: covered;
//   a block in a frozen window is freed: it is copied in vain, harmless: nothing can reuse it
//   before the thaw; the crash comes: see the invariants R5, R7 and test/sim.
//
// Concurrency: one mutex over the engine's state (ledger, walk, activity), never held across I/O, a
// wait, or a call of Host or Volume that does either. It is taken within fs's critical section
// (on_seal) and the locks of Space are taken within it; nothing else nests. What blocks runs on the
// workers of Background: start(), resume() and cancel() hand their work over and wait for it, so
// they may be called from any task but those of Background itself. target_fault comes from any
// task, closes the ledger and publishes the plain map; the rest of a suspension follows on a
// worker.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alloc/base/background.h"
#include "alloc/volume/volume.h"
#include "replace/host.h"
#include "replace/status.h"

namespace moltfs::replace {

class Engine final : public alloc::CommitHook {
 public:
  struct Options {
    uint64_t window_bytes = 1 << 20;
    unsigned windows_in_flight = 16;  ///< fewer while programs are at work (pace.h)
    /// A crash costs at most what was copied since the cursor was last made durable. That is done
    /// each `commit_interval`, and each `commit_bytes`; at `max_undurable_bytes` the copier waits.
    Nanoseconds commit_interval = std::chrono::seconds(5);
    uint64_t commit_bytes = 16 << 20, max_undurable_bytes = 64 << 20;
    /// The product's: always. Tests bring others.
    std::shared_ptr<const alloc::DuplicationRule> rule;
  };

  Engine(alloc::Volume& volume, Host& host, Background& background, const Options& options);
  ~Engine() override;

  /// At mount, before the first write: reads the record in the superblock; if a replace was in
  /// progress finds the target (recorded path, `hints`, candidates; checked by uuid) and arms. A
  /// target that is missing or broken leaves the replace suspended. Copying begins with run().
  Result<void> restore(const std::vector<std::string>& hints, bool read_only);
  void run();
  /// Unmount: no new windows; returns when those in flight are done. The last commit comes after.
  void stop();

  struct StartRequest {
    std::string source;  ///< devid, path or uuid
    std::string target;  ///< path
    bool force = false;  ///< overwrite a foreign signature
  };
  /// Returns when armed (the copy goes on in the background). Errors, each with a sentence and
  /// nothing changed: bad_target (too small with both numbers, already a member, the source
  /// itself), device_in_use (mounted), device_read_only, foreign_signature, not_found,
  /// replace_running, read_only.
  Result<void> start(const StartRequest& request);
  Result<void> resume();  ///< no_replace if none is suspended
  Result<void> cancel();  ///< no_replace if none runs or is suspended
  Status status() const;
  /// Waits until the state is not armed/copying/finishing, or `stop` returns true (polled).
  Status wait(const std::function<bool()>& stop);

  // alloc::CommitHook
  void on_seal(Generation closing) override;
  std::vector<std::byte> on_flushed(Generation closing, bool target_flushed) override;
  void on_durable(Generation closed) override;
  void target_fault(alloc::IoOp op, const Error& error) override;
  bool duplication_stands() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
  alloc::Volume& volume_;
};

}  // namespace moltfs::replace
