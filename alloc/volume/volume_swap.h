// SPDX-License-Identifier: MIT
// The window of a swap: what a write that fails on the source or on the target means while it is
// being decided which of the two is the member (volume.h, steps a to c).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/device/device.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

struct SwapOutcome;

/// What the engine asked for with Volume::request_swap().
struct SwapRequest {
  DeviceId source;
  DeviceEntry target;
  std::function<void(const SwapOutcome&)> outcome;
  std::optional<Generation> sealed;  ///< the commit that is to carry it out
};

class SwapWindow {
 public:
  explicit SwapWindow(Runtime& runtime)
      : decided_(runtime.make_wait_queue()), reported_(runtime.make_wait_queue()) {}

  // ---- The committer.
  /// From now on failing writers wait. Returns when no report of an earlier fault is under way.
  void open(std::shared_ptr<Device> target);
  /// Decides: the target is the member. False (and the window stays open) if it has been spoilt.
  bool close_done();
  /// Decides: the source stays.
  void close_failed();

  // ---- Everybody else.
  /// A write under a map that duplicates to `target` has failed, on the target (`target_failed`) or
  /// on the source. Waits if the window for this target is open. True: the target is the member
  /// now. False: the source is, and if target_failed the caller has begun a report: it tells the
  /// hook and then calls end_report().
  bool target_is_member(const Device* target, bool target_failed);
  void end_report();
  /// Duplication is being switched off: a swap that is not decided yet must fail.
  void spoil();

 private:
  enum class State { closed, open, done };
  std::mutex mutex_;
  std::unique_ptr<WaitQueue> decided_, reported_;
  State state_ = State::closed;  // guarded by mutex_, as all below
  bool spoilt_ = false;
  unsigned reports_ = 0;
  std::shared_ptr<Device> target_;  // of the open window, or of the last swap that was done
};

}  // namespace moltfs::alloc
