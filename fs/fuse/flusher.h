// SPDX-License-Identifier: MIT
// SEEK_DATA and SEEK_HOLE on a file with pages in the writeback cache.
//
// The kernel passes such a seek on without writing those pages back, so the answer would not know
// of them. Here a thread that serves no requests (the write-back is made of requests, which the
// receive threads must be free to take) asks the kernel to write back and drop the pages, then
// answers. Only for inodes that somebody has open for writing.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "fs/fuse/front.h"

namespace moltfs::fs::fuse {

class Flusher {
 public:
  explicit Flusher(Front& front) : front_(front) {}
  ~Flusher() { stop(); }

  /// From now on seeks can be given.
  void start(fuse_session* session);
  /// Answers what is waiting, then ends. The receive threads must still be serving.
  void stop();
  /// Takes over the request; false if stopped.
  bool seek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence);

 private:
  struct Job {
    fuse_req_t req;
    fuse_ino_t ino;
    off_t offset;
    int whence;
    int reply_fd;
  };
  void run();

  Front& front_;
  fuse_session* session_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;  // guarded by mutex_, as running_
  bool running_ = false;
  std::thread thread_;
};

}  // namespace moltfs::fs::fuse
