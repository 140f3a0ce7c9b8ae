// SPDX-License-Identifier: MIT
// Range locks: one queue for each inode in use, in order of arrival. A request is granted as soon
// as no earlier request in the queue, granted or waiting, conflicts with it.
#include "fs/inode/range_lock.h"

#include <utility>

#include "alloc/base/assert.h"

namespace moltfs::fs {

struct RangeLocks::Waiter {
  uint64_t id = 0;
  uint64_t first = 0, end = 0;
  bool exclusive = false;
  bool granted = false;
  std::unique_ptr<WaitQueue> wake;  // made if it has to wait

  bool conflicts(const Waiter& other) const {
    return first < other.end && other.first < end && (exclusive || other.exclusive);
  }
};

struct RangeLocks::Queue {
  std::list<Waiter> waiters;
  uint64_t next_id = 1;

  bool may_go(std::list<Waiter>::const_iterator waiter) const {
    for (auto earlier = waiters.begin(); earlier != waiter; ++earlier) {
      if (earlier->conflicts(*waiter)) return false;
    }
    return true;
  }
};

RangeLock::RangeLock(RangeLock&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), inode_(other.inode_), id_(other.id_) {}

RangeLock& RangeLock::operator=(RangeLock&& other) noexcept {
  if (this == &other) return *this;
  unlock();
  owner_ = std::exchange(other.owner_, nullptr);
  inode_ = other.inode_;
  id_ = other.id_;
  return *this;
}

void RangeLock::unlock() {
  if (owner_ != nullptr) std::exchange(owner_, nullptr)->unlock(inode_, id_);
}

RangeLocks::RangeLocks(Runtime& runtime) : runtime_(runtime) {}
RangeLocks::~RangeLocks() = default;

RangeLock RangeLocks::shared(InodeNumber ino, uint64_t first, uint64_t end) {
  return lock(ino, first, end, false);
}

RangeLock RangeLocks::exclusive(InodeNumber ino, uint64_t first, uint64_t end) {
  return lock(ino, first, end, true);
}

RangeLock RangeLocks::lock(InodeNumber ino, uint64_t first, uint64_t end, bool exclusive) {
  ASSERT(first < end);
  RangeLock result;
  std::unique_lock guard(mutex_);
  auto& slot = queues_[ino.value];
  if (!slot) slot = std::make_unique<Queue>();
  Queue& queue = *slot;
  auto waiter = queue.waiters.emplace(queue.waiters.end());
  waiter->id = queue.next_id++;
  waiter->first = first;
  waiter->end = end;
  waiter->exclusive = exclusive;
  waiter->granted = queue.may_go(waiter);
  if (!waiter->granted) {
    waiter->wake = runtime_.make_wait_queue();
    while (!waiter->granted) waiter->wake->wait(guard);
  }
  result.owner_ = this;
  result.inode_ = ino.value;
  result.id_ = waiter->id;
  return result;
}

void RangeLocks::unlock(uint64_t inode, uint64_t id) {
  std::unique_lock guard(mutex_);
  const auto slot = queues_.find(inode);
  ASSERT(slot != queues_.end());
  Queue& queue = *slot->second;
  auto waiter = queue.waiters.begin();
  while (waiter != queue.waiters.end() && waiter->id != id) ++waiter;
  ASSERT(waiter != queue.waiters.end());
  waiter = queue.waiters.erase(waiter);
  for (; waiter != queue.waiters.end(); ++waiter) {
    if (waiter->granted || !queue.may_go(waiter)) continue;
    waiter->granted = true;
    waiter->wake->notify_all();
  }
  if (queue.waiters.empty()) queues_.erase(slot);
}

}  // namespace moltfs::fs
