// SPDX-License-Identifier: MIT
// Asking, promising, settling.
#include "fs/fuse/low_space.h"

#include <errno.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "fs/fuse/deferred_replies.h"

namespace moltfs::fs::fuse {
namespace {

/// The longest write that is sure to be stored or refused. It may begin and end within a block.
constexpr uint64_t kPromise = kMaxWriteBytes + 2 * kBlockSize;
/// RELEASE and FORGET of a file that was removed come a little after close(2) and unlink(2).
constexpr Nanoseconds kForgetsWithin = std::chrono::milliseconds(500);
constexpr Nanoseconds kBetweenLooks = std::chrono::milliseconds(5);
/// From the answer to the last byte in the kernel's cache, on a busy machine too.
constexpr Nanoseconds kStoresWithin = std::chrono::seconds(1);
constexpr Nanoseconds kBetweenWriteBacks = std::chrono::milliseconds(20);

}  // namespace

Nanoseconds LowSpace::now() const {
  return context_.filesystem.runtime().now();
}

/// What can be written now, without a commit.
uint64_t LowSpace::free_bytes() const {
  const alloc::SpaceUsage usage = context_.filesystem.transactions().volume().space().usage();
  const uint64_t pinned = std::min(usage.available_bytes, usage.pinned_data_bytes);
  return std::min(usage.available_bytes - pinned, usage.recordable_bytes);
}

void LowSpace::set_limit(uint64_t bytes) {
  limit_ = bytes;
  look();
}

double LowSpace::attribute_seconds(fuse_ino_t ino) {
  if (!tight_ || !context_.writers.any(ino)) return kCacheSeconds;
  context_.forget_attributes(ino);
  return 0;
}

void LowSpace::opened(fuse_ino_t ino) {
  look();
  attributes_are_known(ino);
}

void LowSpace::attributes_are_known(fuse_ino_t ino) {
  if (tight_ && context_.writers.any(ino)) context_.forget_attributes(ino);
}

bool LowSpace::ask(fuse_req_t req, fuse_ino_t ino) {
  if (tight_) look();
  if (!tight_) return false;
  const pid_t thread = fuse_req_ctx(req)->pid;
  has_stored(thread, ino);
  if (promise(ino, thread)) return false;
  if (!context_.deferred->post([=, this] { settle_and_answer(req, ino); })) {
    fuse_reply_err(req, ENOTCONN);
  }
  return true;
}

bool LowSpace::promise(fuse_ino_t ino, pid_t thread) {
  std::lock_guard lock(mutex_);
  if (taking_ || free_bytes() < promised_ + unknown_ + kPromise) return false;
  promises_[ino].fresh += kPromise;
  promised_ += kPromise;
  storing_.push_back({thread, ino, now() + kStoresWithin});
  return true;
}

/// The thread makes a request, so no write(2) of its is under way. Threads of foreign pid
/// namespaces are all called 0: for them the newest promise of each file stands for all.
void LowSpace::has_stored(pid_t thread, fuse_ino_t ino) {
  std::lock_guard lock(mutex_);
  std::erase_if(storing_, [&, moment = now()](const Storing& storing) {
    const bool is_same = storing.thread == thread && (thread != 0 || storing.ino == ino);
    return is_same || storing.until <= moment;
  });
}

bool LowSpace::may_be_preallocated(fuse_ino_t ino) const {
  const auto found = context_.filesystem.has_preallocated(InodeNumber(ino));
  return !found || found.value();
}

/// On the deferred's thread.
void LowSpace::settle_and_answer(fuse_req_t req, fuse_ino_t ino) {
  if (settle(ino, fuse_req_ctx(req)->pid) || may_be_preallocated(ino)) {
    reply_attributes(req, context_.filesystem.attributes(InodeNumber(ino)));
  } else {
    fuse_reply_err(req, ENOSPC);
  }
}

bool LowSpace::settle(fuse_ino_t ino, pid_t thread) {
  if (promise(ino, thread)) return true;
  for (;;) {
    const bool is_last = write_back_promised();
    if (promise(ino, thread) || reclaim_and_promise(ino, thread)) return true;
    if (is_last) return false;
    context_.filesystem.runtime().sleep(kBetweenWriteBacks);
  }
}

/// Ends the promises whose bytes have come. True: all have, nobody was storing (G2).
bool LowSpace::write_back_promised() {
  std::vector<uint64_t> inodes;
  bool knows_all = false, all_stored = false;
  uint64_t still_unknown = 0;
  Nanoseconds tight_until{0};
  {
    std::lock_guard lock(mutex_);
    const Nanoseconds moment = now();
    std::erase_if(storing_, [=](const Storing& storing) { return storing.until <= moment; });
    for (auto& [ino, promise] : promises_) {
      promise.settling += std::exchange(promise.fresh, 0);
      inodes.push_back(ino);
    }
    for (const Storing& storing : storing_) {
      Promise& promise = promises_[storing.ino];
      const uint64_t kept = std::min(kPromise, promise.settling);
      promise.settling -= kept;
      promise.fresh += kept;
    }
    knows_all = unknown_ == 0;
    tight_until = unknown_storing_until_;
    if (!knows_all && moment < tight_until)
      still_unknown = context_.writers.all().size() * kPromise;
    all_stored = storing_.empty() && still_unknown == 0;
  }
  if (!knows_all) inodes = context_.writers.all();
  for (const uint64_t ino : inodes) context_.deferred->write_back(ino);

  std::lock_guard lock(mutex_);
  // Unless it has become tight anew meanwhile.
  if (tight_until == unknown_storing_until_) unknown_ = std::min(unknown_, still_unknown);
  for (auto& [ino, promise] : promises_) promised_ -= std::exchange(promise.settling, 0);
  std::erase_if(promises_, [](const auto& entry) { return entry.second.fresh == 0; });
  return all_stored;
}

bool LowSpace::reclaim_and_promise(fuse_ino_t ino, pid_t thread) {
  for (;;) {
    const bool is_last = now().count() >= forgets_until_;
    // An error is for those whose data it concerns: they meet it at fsync.
    const auto reclaimed = context_.filesystem.reclaim();
    if (promise(ino, thread)) return true;
    if (is_last || !reclaimed) return false;
    context_.filesystem.runtime().sleep(kBetweenLooks);
  }
}

void LowSpace::run_taking_space(fuse_req_t req, std::function<void()> operation) {
  look();
  if (!tight_) return operation();
  has_stored(fuse_req_ctx(req)->pid, 0);
  const bool posted = context_.deferred->post([this, operation = std::move(operation)] {
    set_taking(true);
    while (!write_back_promised()) context_.filesystem.runtime().sleep(kBetweenWriteBacks);
    operation();
    set_taking(false);
  });
  if (!posted) fuse_reply_err(req, ENOTCONN);
}

void LowSpace::set_taking(bool taking) {
  std::lock_guard lock(mutex_);
  taking_ = taking;
}

void LowSpace::wrote(fuse_ino_t ino, uint64_t bytes, bool cached) {
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

void LowSpace::closed(fuse_ino_t ino) {
  if (!tight_) return;
  std::lock_guard lock(mutex_);
  std::erase_if(storing_, [=](const Storing& storing) { return storing.ino == ino; });
  const auto found = promises_.find(ino);
  if (found == promises_.end()) return;
  promised_ -= found->second.fresh + found->second.settling;
  promises_.erase(found);
}

void LowSpace::removed() {
  if (tight_) forgets_until_ = (now() + kForgetsWithin).count();
}

void LowSpace::look() {
  const uint64_t limit = limit_;
  if (limit == 0) return;
  const uint64_t free = free_bytes();
  if (!tight_ && free < limit) become_tight();
  if (tight_ && free >= 2 * limit) tight_ = false;
}

void LowSpace::become_tight() {
  {
    std::lock_guard lock(mutex_);
    if (tight_) return;
    unknown_ = limit_;
    unknown_storing_until_ = now() + kStoresWithin;
    // Before looking who writes: an opening either is in that list or sees that it is tight.
    tight_ = true;
  }
  for (const uint64_t ino : context_.writers.all()) context_.forget_attributes(ino);
}

}  // namespace moltfs::fs::fuse
