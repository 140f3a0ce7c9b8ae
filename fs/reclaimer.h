// SPDX-License-Identifier: MIT
// Orphans: inodes without a name, kept as long as somebody holds them, then removed by a background
// task; and truncates that a crash interrupted.
//
// An orphan has an item in the fs tree from the critical section in which it lost its last name to
// the one in which its inode item goes. So a crash at any point leaves it for the next mount. Its
// content and attributes go before it, in as many critical sections as they need.
//
// O1 Who finds an inode by its name or number takes a reference only in a critical section in which
//    the inode has links or is held already: what was given to the task has no way back.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "fs/inode/context.h"

namespace moltfs::fs {

/// The background task.
class Reclaimer {
 public:
  explicit Reclaimer(FilesystemContext& context);
  /// abandon()
  ~Reclaimer();

  /// Finishes interrupted truncates (before anybody can make such a file longer), queues the
  /// orphans found in the trees and starts the task. Damage is logged, not returned.
  void start();
  /// Queues an orphan that nobody holds. Callable in a critical section.
  void add(InodeNumber ino);
  /// True if something is queued or being removed.
  bool busy() const;
  /// (waits) Until nothing is.
  void wait_idle();
  /// (waits) Removes all that is queued, then ends the task.
  void stop();
  /// (waits) Ends the task after the inodes in hand.
  void abandon();

 private:
  void run();
  void finish(bool drop_queue);
  Result<void> find_orphans();
  void remove_queued(std::unique_lock<std::mutex>& lock);
  void remove_batch(const std::vector<InodeNumber>& batch);
  Result<void> remove(InodeNumber ino);

  FilesystemContext& context_;
  mutable std::mutex mutex_;
  const std::unique_ptr<WaitQueue> work_, idle_;
  std::deque<InodeNumber> queue_;  // guarded by mutex_, as all below
  bool removing_ = false;
  unsigned hurrying_ = 0;  // who waits for the queue to be empty
  bool stopping_ = false;
  bool started_ = false;
  std::unique_ptr<Task> task_;  // start() and finish() only
};

}  // namespace moltfs::fs
