// SPDX-License-Identifier: MIT
// Locks on byte ranges of an inode's content. They may be held across device I/O and waits (they
// are not mutexes; the lock order is in fs/README.md). Shared for readers, exclusive for writers.
// Fair: first come, first served, so that a truncate does not starve.
#pragma once

#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::fs {

class RangeLocks;

class RangeLock {
 public:
  RangeLock() = default;
  RangeLock(RangeLock&& other) noexcept;
  RangeLock& operator=(RangeLock&& other) noexcept;
  ~RangeLock() { unlock(); }
  void unlock();

 private:
  friend class RangeLocks;
  RangeLocks* owner_ = nullptr;
  uint64_t inode_ = 0;
  uint64_t id_ = 0;
};

class RangeLocks {
 public:
  static constexpr uint64_t kToEnd = std::numeric_limits<uint64_t>::max();
  explicit RangeLocks(Runtime& runtime);
  ~RangeLocks();
  /// (waits) [first, end) in bytes.
  RangeLock shared(InodeNumber ino, uint64_t first, uint64_t end);
  RangeLock exclusive(InodeNumber ino, uint64_t first, uint64_t end);

 private:
  friend class RangeLock;
  struct Waiter;
  struct Queue;
  RangeLock lock(InodeNumber ino, uint64_t first, uint64_t end, bool exclusive);
  void unlock(uint64_t inode, uint64_t id);

  Runtime& runtime_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, std::unique_ptr<Queue>> queues_;  // by inode
};

}  // namespace moltfs::fs
