// SPDX-License-Identifier: MIT
// Asking, promising, settling.
#include "fs/fuse/space_guard.h"

#include <errno.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "fs/fuse/flusher.h"

namespace moltfs::fs::fuse {
namespace {

/// The longest write that is sure to be stored or refused. It may begin and end within a block.
constexpr uint64_t kPromise = kMaxWriteBytes + 2 * kBlockSize;
/// RELEASE and FORGET of a file that was removed come a little after close(2) and unlink(2).
constexpr Nanoseconds kForgetsWithin = std::chrono::milliseconds(500);
constexpr Nanoseconds kBetweenLooks = std::chrono::milliseconds(5);

}  // namespace

/// What can be written now, without a commit.
uint64_t SpaceGuard::free_bytes() const {
  const alloc::SpaceUsage usage = front_.filesystem.transactions().volume().space().usage();
  const uint64_t pinned = std::min(usage.available_bytes, usage.pinned_data_bytes);
  return std::min(usage.available_bytes - pinned, usage.recordable_bytes);
}

void SpaceGuard::set_limit(uint64_t bytes) {
  limit_ = bytes;
  look();
}

double SpaceGuard::attribute_seconds(fuse_ino_t ino) {
  if (!tight_ || !front_.writers.any(ino)) return kCacheSeconds;
  front_.forget_attributes(ino);
  return 0;
}

void SpaceGuard::opened(fuse_ino_t ino) {
  look();
  attributes_are_known(ino);
}

void SpaceGuard::attributes_are_known(fuse_ino_t ino) {
  if (tight_ && front_.writers.any(ino)) front_.forget_attributes(ino);
}

bool SpaceGuard::ask(fuse_req_t req, fuse_ino_t ino) {
  if (tight_) look();
  if (!tight_ || promise(ino)) return false;
  if (!front_.flusher->post([=, this] { settle_and_answer(req, ino); })) {
    fuse_reply_err(req, ENOTCONN);
  }
  return true;
}

bool SpaceGuard::promise(fuse_ino_t ino) {
  std::lock_guard lock(mutex_);
  if (taking_ || free_bytes() < promised_ + unknown_ + kPromise) return false;
  promises_[ino].fresh += kPromise;
  promised_ += kPromise;
  return true;
}

bool SpaceGuard::may_be_preallocated(fuse_ino_t ino) const {
  const auto found = front_.filesystem.has_preallocated(InodeNumber(ino));
  return !found || found.value();
}

/// On the flusher's thread.
void SpaceGuard::settle_and_answer(fuse_req_t req, fuse_ino_t ino) {
  bool granted = promise(ino);
  if (!granted) {
    write_back_promised();
    granted = promise(ino);
  }
  if (!granted) granted = reclaim_and_promise(ino) || may_be_preallocated(ino);
  if (granted) {
    reply_attributes(req, front_.filesystem.attributes(InodeNumber(ino)));
  } else {
    fuse_reply_err(req, ENOSPC);
  }
}

void SpaceGuard::write_back_promised() {
  std::vector<uint64_t> inodes;
  bool knows_all = false;
  {
    std::lock_guard lock(mutex_);
    knows_all = unknown_ == 0;
    for (auto& [ino, promise] : promises_) {
      promise.settling += std::exchange(promise.fresh, 0);
      inodes.push_back(ino);
    }
  }
  if (!knows_all) inodes = front_.writers.all();
  for (const uint64_t ino : inodes) front_.flusher->write_back(ino);

  std::lock_guard lock(mutex_);
  if (!knows_all) unknown_ = 0;
  for (auto& [ino, promise] : promises_) promised_ -= std::exchange(promise.settling, 0);
  std::erase_if(promises_, [](const auto& entry) { return entry.second.fresh == 0; });
}

bool SpaceGuard::reclaim_and_promise(fuse_ino_t ino) {
  for (;;) {
    const bool is_last = front_.filesystem.runtime().now().count() >= forgets_until_;
    // An error is for those whose data it concerns: they meet it at fsync.
    const auto reclaimed = front_.filesystem.reclaim();
    if (promise(ino)) return true;
    if (is_last || !reclaimed) return false;
    front_.filesystem.runtime().sleep(kBetweenLooks);
  }
}

void SpaceGuard::run_taking_space(fuse_req_t req, std::function<void()> operation) {
  look();
  if (!tight_) return operation();
  const bool posted = front_.flusher->post([this, operation = std::move(operation)] {
    set_taking(true);
    write_back_promised();
    operation();
    set_taking(false);
  });
  if (!posted) fuse_reply_err(req, ENOTCONN);
}

void SpaceGuard::set_taking(bool taking) {
  std::lock_guard lock(mutex_);
  taking_ = taking;
}

void SpaceGuard::wrote(fuse_ino_t ino, uint64_t bytes, bool cached) {
  if (cached && tight_) {
    std::lock_guard lock(mutex_);
    const auto found = promises_.find(ino);
    if (found != promises_.end()) {
      for (uint64_t Promise::*part : {&Promise::settling, &Promise::fresh}) {
        const uint64_t kept = std::min(found->second.*part, bytes);
        found->second.*part -= kept;
        promised_ -= kept;
        bytes -= kept;
      }
    }
    unknown_ -= std::min(unknown_, bytes);
  }
  look();
}

void SpaceGuard::closed(fuse_ino_t ino) {
  if (!tight_) return;
  std::lock_guard lock(mutex_);
  const auto found = promises_.find(ino);
  if (found == promises_.end()) return;
  promised_ -= found->second.fresh + found->second.settling;
  promises_.erase(found);
}

void SpaceGuard::removed() {
  if (tight_) forgets_until_ = (front_.filesystem.runtime().now() + kForgetsWithin).count();
}

void SpaceGuard::look() {
  const uint64_t limit = limit_;
  if (limit == 0) return;
  const uint64_t free = free_bytes();
  if (!tight_ && free < limit) become_tight();
  if (tight_ && free >= 2 * limit) relax();
}

void SpaceGuard::become_tight() {
  {
    std::lock_guard lock(mutex_);
    if (tight_) return;
    unknown_ = limit_;
    // Before looking who writes: an opening either is in that list or sees that it is tight.
    tight_ = true;
  }
  for (const uint64_t ino : front_.writers.all()) front_.forget_attributes(ino);
}

void SpaceGuard::relax() {
  std::lock_guard lock(mutex_);
  tight_ = false;
  promises_.clear();
  promised_ = unknown_ = 0;
}

}  // namespace moltfs::fs::fuse
