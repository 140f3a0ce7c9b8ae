// SPDX-License-Identifier: MIT
// The thread on which write-back is waited for.
#include "fs/fuse/deferred_replies.h"

#include <pthread.h>

#include <utility>

#include "fs/fuse/op_content.h"
#include "fs/fuse/receive.h"

namespace moltfs::fs::fuse {

void DeferredReplies::start(fuse_session* session) {
  std::lock_guard lock(mutex_);
  session_ = session;
  running_ = true;
  thread_ = std::thread([this] { run(); });
}

void DeferredReplies::stop() {
  {
    std::lock_guard lock(mutex_);
    running_ = false;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool DeferredReplies::post(Job job) {
  {
    std::lock_guard lock(mutex_);
    if (!running_) return false;
    jobs_.push_back({std::move(job), reply_descriptor()});
  }
  wake_.notify_one();
  return true;
}

bool DeferredReplies::seek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence) {
  return post([=, this] {
    write_back(ino);
    answer_seek(req, context_.filesystem, ino, offset, whence);
  });
}

void DeferredReplies::write_back(fuse_ino_t ino) const {
  fuse_lowlevel_notify_inval_inode(session_, ino, 0, 0);
}

void DeferredReplies::drop(fuse_ino_t ino, off_t offset, size_t size) const {
  fuse_lowlevel_notify_inval_inode(session_, ino, offset, static_cast<off_t>(size));
}

void DeferredReplies::run() {
  pthread_setname_np(pthread_self(), "moltfs-flush");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !jobs_.empty() || !running_; });
    if (jobs_.empty()) return;
    const Waiting next = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    {
      const ReplyDescriptor reply_to(next.reply_fd);
      next.job();
    }
    lock.lock();
  }
}

}  // namespace moltfs::fs::fuse
