// SPDX-License-Identifier: MIT
// The window of a swap (volume.h, steps a to c). It decides what a failed write to the source or to
// the target means while it is not yet known which of the two is the member.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/device/device.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

struct SwapOutcome {
  bool done = false;
  std::string reason;  ///< if not done
};

/// What Volume::request_swap() was called with.
struct SwapRequest {
  DeviceId source;
  DeviceEntry target;
  std::function<void(const SwapOutcome&)> outcome;
  bool keep_source = false;          ///< the source has blocks that the target lacks
  std::optional<Generation> sealed;  ///< the commit that will carry it out
};

class SwapWindow {
 public:
  explicit SwapWindow(Runtime& runtime)
      : decided_(runtime.make_wait_queue()), reported_(runtime.make_wait_queue()) {}

  // ---- Called by the committer.
  /// From now on writers that fail wait. Returns when all reports of earlier faults have ended.
  void open(std::shared_ptr<Device> target);
  /// Decides that the target is the member. False if the window was spoilt: then it stays open.
  bool close_done();
  /// Decides that the source stays the member.
  void close_failed();

  // ---- Called by any task.
  /// A write under a map that duplicates to `target` has failed, on the target (`target_failed`) or
  /// on the source. Waits if the window for this target is open. True: the target is the member
  /// now. False: the source is; if target_failed, a report has begun: the caller must tell the hook
  /// and then call end_report().
  bool target_is_member(const Device* target, bool target_failed);
  void end_report();
  /// Duplication is being switched off: if a swap is not decided yet, it must fail.
  void spoil();

 private:
  enum class State { closed, open, done };
  std::mutex mutex_;
  std::unique_ptr<WaitQueue> decided_, reported_;
  State state_ = State::closed;  // guarded by mutex_, as all below
  bool spoilt_ = false;
  unsigned reports_ = 0;
  std::shared_ptr<Device> target_;  // of the open window
  std::weak_ptr<Device> member_;    // of the last swap that succeeded; does not keep it open
};

}  // namespace moltfs::alloc
