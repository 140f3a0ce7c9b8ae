// SPDX-License-Identifier: MIT
#include "fs/fuse/deferred_replies.h"

#include <utility>

#include "alloc/base/contain.h"
#include "alloc/base/log.h"
#include "fs/fuse/receive.h"

namespace moltfs::fs::fuse {

DeferredReplies::DeferredReplies(Runtime& runtime)
    : runtime_(runtime), wake_(runtime.make_wait_queue()) {}

DeferredReplies::~DeferredReplies() {
  stop();
}

void DeferredReplies::start() {
  {
    std::lock_guard lock(mutex_);
    running_ = true;
  }
  thread_ = runtime_.spawn("moltfs-deferred", [this] { run(); });
}

void DeferredReplies::stop() {
  {
    std::lock_guard lock(mutex_);
    running_ = false;
  }
  wake_->notify_all();
  thread_.reset();
}

bool DeferredReplies::post(Job job) {
  {
    std::lock_guard lock(mutex_);
    if (!running_) return false;
    jobs_.push_back({std::move(job), reply_descriptor()});
  }
  wake_->notify_one();
  return true;
}

void DeferredReplies::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_->wait(lock, [this] { return !jobs_.empty() || !running_; });
    if (jobs_.empty()) return;
    const Waiting next = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    {
      const ReplyDescriptor reply_to(next.reply_fd);
      const auto done = contain(next.job);
      if (!done) log_warning("a deferred reply: {}", done.error().message());
    }
    lock.lock();
  }
}

}  // namespace moltfs::fs::fuse
