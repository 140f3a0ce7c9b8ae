// SPDX-License-Identifier: MIT
// Being told before a thread blocks: before it waits for a device, for another task, for time to
// pass. Whoever keeps a thread free for others to be served (fs/fuse/receive.h) hands that duty on
// then, and not for work that is done at once.
#pragma once

#include <functional>

namespace moltfs {

/// For whoever is about to block; RealRuntime and the engines of real devices are. Cheap where
/// nobody listens. May be called with locks held.
void announce_blocking();

/// While it lives, announce_blocking() on this thread calls `listener`, which must not block.
class BlockingListener {
 public:
  explicit BlockingListener(std::function<void()> listener);
  ~BlockingListener();
  BlockingListener(const BlockingListener&) = delete;
  BlockingListener& operator=(const BlockingListener&) = delete;

 private:
  const std::function<void()> listener_;
  const std::function<void()>* const before_;
};

}  // namespace moltfs
