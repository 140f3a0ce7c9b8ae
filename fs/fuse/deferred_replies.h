// SPDX-License-Identifier: MIT
// A thread that serves no requests, for what waits until the kernel has written back cached pages:
// the write-back is made of requests, which the receive threads must be free to take.
//
// SEEK_DATA and SEEK_HOLE on a file with pages in the writeback cache: the kernel passes such a
// seek on without writing those pages back, so the answer would not know of them. Here the pages
// are written back and dropped first. Only for inodes that somebody has open for writing.
//
// Direct writes to parts of a file that are being read into the page cache: see content.cc.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

class DeferredReplies {
 public:
  using Job = std::function<void()>;

  explicit DeferredReplies(FuseContext& context) : context_(context) {}
  ~DeferredReplies() { stop(); }

  /// From now on jobs can be given.
  void start(fuse_session* session);
  /// Does what is waiting, then ends. The receive threads must still be serving.
  void stop();
  /// Has `job` run on the thread, after those that were given before; it answers a request of the
  /// calling thread. False if stopped.
  bool post(Job job);
  /// Takes over the request; false if stopped.
  bool seek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence);
  /// Has the kernel write back and drop the inode's pages. For jobs.
  void write_back(fuse_ino_t ino) const;
  /// Has the kernel drop its pages of a part of the file, which is not empty. For jobs: it waits
  /// for pages that the kernel is reading.
  void drop(fuse_ino_t ino, off_t offset, size_t size) const;

 private:
  struct Waiting {
    Job job;
    int reply_fd;
  };
  void run();

  FuseContext& context_;
  fuse_session* session_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Waiting> jobs_;  // guarded by mutex_, as running_
  bool running_ = false;
  std::thread thread_;
};

}  // namespace moltfs::fs::fuse
