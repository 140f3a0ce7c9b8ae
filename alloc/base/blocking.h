// SPDX-License-Identifier: MIT
// A callback before the calling thread blocks, that is, before it waits for a device, for another
// task or for time to pass. The thread that receives requests (fs/fuse/receive.h) uses it: before
// it blocks, it lets another thread receive; while it only computes, it need not.
#pragma once

#include <functional>

namespace moltfs {

/// To be called before blocking. RealRuntime and the engines of real devices call it. Cheap if this
/// thread has no listener. May be called with locks held.
void announce_blocking();

/// While this object lives, announce_blocking() on this thread calls `listener`, which must not
/// block. Objects on one thread nest: the newest listener is called.
class BlockingListener {
 public:
  explicit BlockingListener(std::function<void()> listener);
  ~BlockingListener();
  BlockingListener(const BlockingListener&) = delete;
  BlockingListener& operator=(const BlockingListener&) = delete;

 private:
  const std::function<void()> listener_;
  const std::function<void()>* const outer_;
};

}  // namespace moltfs
