// SPDX-License-Identifier: MIT
// A thread that serves no requests. It runs jobs that must wait until the kernel has written back
// or read cached pages. The kernel does that by requests, and the receive threads must be free to
// serve them; so a receive thread hands the job over, and the job replies to the request later.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "alloc/base/runtime.h"

namespace moltfs::fs::fuse {

class DeferredReplies {
 public:
  using Job = std::function<void()>;

  explicit DeferredReplies(Runtime& runtime);
  /// stop().
  ~DeferredReplies();

  /// From now on jobs are accepted.
  void start();
  /// Runs the jobs that were accepted, then ends the thread. The receive threads must still be
  /// serving.
  void stop();
  /// Runs `job` on the thread, after all jobs accepted before it. It replies as the calling thread
  /// would: through the descriptor that the request came from. False: not accepted, as the thread
  /// is not running.
  bool post(Job job);

 private:
  struct Waiting {
    Job job;
    int reply_fd;
  };
  void run();

  Runtime& runtime_;
  const std::unique_ptr<WaitQueue> wake_;
  std::mutex mutex_;
  std::deque<Waiting> jobs_;  // guarded by mutex_
  bool running_ = false;      // guarded by mutex_
  std::unique_ptr<Task> thread_;
};

}  // namespace moltfs::fs::fuse
