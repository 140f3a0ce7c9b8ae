// SPDX-License-Identifier: MIT
// Removes orphans (inodes without a name) when no lookup reference holds them, and finishes
// truncates that a crash interrupted.
//
// An orphan has a mark (fs/inode/orphan_mark.h) from the critical section that removes its last
// name to the one that erases its inode item. So a crash at any point leaves it for the next mount.
// Its content and attributes are removed first, in as many critical sections as they need.
//
// O1 An operation that finds an inode by name or number takes a reference only in a critical
//    section in which the inode has links or is already held. So an orphan that was passed to the
//    task never comes back.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "fs/inode/context.h"

namespace moltfs::fs {

/// The background task.
class Reclaimer final : public OrphanSink {
 public:
  explicit Reclaimer(FilesystemContext& context);
  /// abandon()
  ~Reclaimer();

  /// Finishes interrupted truncates (before such a file can grow), queues the orphans found in the
  /// trees and starts the task. Damage is logged, not returned.
  void start();
  void add(InodeNumber ino) override;
  /// True if something is queued or being removed.
  bool busy() const;
  /// (waits) Until busy() is false.
  void wait_idle();
  /// (waits) Removes all queued orphans, then ends the task.
  void stop();
  /// (waits) Ends the task after the batch that it is removing.
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
  unsigned hurrying_ = 0;  // callers that wait for the queue to be empty
  bool stopping_ = false;
  bool started_ = false;
  std::unique_ptr<Task> task_;  // start() and finish() only
};

}  // namespace moltfs::fs
