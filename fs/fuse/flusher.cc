// SPDX-License-Identifier: MIT
// The thread that has pages written back before a seek is answered.
#include "fs/fuse/flusher.h"

#include <pthread.h>

#include "fs/fuse/content.h"
#include "fs/fuse/receive.h"

namespace moltfs::fs::fuse {

void Flusher::start(fuse_session* session) {
  std::lock_guard lock(mutex_);
  session_ = session;
  running_ = true;
  thread_ = std::thread([this] { run(); });
}

void Flusher::stop() {
  {
    std::lock_guard lock(mutex_);
    running_ = false;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Flusher::seek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence) {
  {
    std::lock_guard lock(mutex_);
    if (!running_) return false;
    jobs_.push_back({req, ino, offset, whence, reply_descriptor()});
  }
  wake_.notify_one();
  return true;
}

void Flusher::run() {
  pthread_setname_np(pthread_self(), "moltfs-flush");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !jobs_.empty() || !running_; });
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    fuse_lowlevel_notify_inval_inode(session_, job.ino, 0, 0);
    const ReplyDescriptor reply_to(job.reply_fd);
    answer_seek(job.req, front_.filesystem, job.ino, job.offset, job.whence);
    lock.lock();
  }
}

}  // namespace moltfs::fs::fuse
