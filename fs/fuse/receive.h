// SPDX-License-Identifier: MIT
// Receiving: threads that read requests from /dev/fuse, each into its own buffer, and handle them
// from beginning to end.
//
// The buffer is placed so that what follows the header of a FUSE_WRITE, its payload, begins on a
// page: it goes to the device as it is.
//
//   |<- page ------------------->|<- pages ----------------------------->|
//                    | 80 header | payload of a write, up to 1 MiB        |
//                    ^ request
//
// Threads. Waking one costs more than a small request does, so as a rule one thread alone takes and
// handles requests, one after the other, and looks for the next for a while before it sleeps
// (adaptive_spin.h). It calls another to take its place
//   - before it blocks (alloc/base/blocking.h): slow requests (fsync, the start of a replace, reads
//     from a device) do not keep quick ones waiting;
//   - when it has found kBusyStreak requests waiting for it in a row: several clients are at work.
//     For a while after that, `base` threads wait for requests.
// Those that are not needed are parked. No more than `max` are started.
// A thread has its own clone of the device where the kernel gives one, and a reply goes through the
// descriptor that its request came from.
//
// Ending: the kernel ends the connection (unmount: every read gives ENODEV), or stop().
#pragma once

#include <signal.h>
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "alloc/base/buffer.h"
#include "fs/fuse/adaptive_spin.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {

/// Room for one request, with page-aligned payload of writes.
class ReceiveBuffer {
 public:
  explicit ReceiveBuffer(size_t max_write_bytes);
  std::byte* data() { return memory_.data() + kBlockSize - kWriteHeaderBytes; }
  size_t size() const { return memory_.size() - kBlockSize + kWriteHeaderBytes; }

 private:
  AlignedBuffer memory_;
};

/// Where replies of the calling thread go; -1: to the session's own descriptor.
int reply_descriptor();

/// Sets reply_descriptor() for a scope.
class ReplyDescriptor {
 public:
  explicit ReplyDescriptor(int fd);
  ~ReplyDescriptor();
  ReplyDescriptor(const ReplyDescriptor&) = delete;
  ReplyDescriptor& operator=(const ReplyDescriptor&) = delete;

 private:
  const int before_;
};

class Receiver {
 public:
  struct Options {
    unsigned base_threads = 2;
    unsigned max_threads = 16;
    size_t max_write_bytes = 1 << 20;
  };
  /// Handles one whole request; replies before it returns, or keeps what it needs.
  using Handler = std::function<void(std::span<std::byte> request)>;

  Receiver(int device_fd, const Options& options, Handler handler);
  /// stop() and join().
  ~Receiver();

  void start();
  /// Ends all threads once they have handled what they are at. Does not wait.
  void stop() { stopping_ = true; }
  /// Waits until all threads have ended.
  void join();
  /// Readable when the connection has ended.
  int ended_fd() const { return ended_fd_; }

  /// The signal that interrupts a thread's read; its handler does nothing.
  static constexpr int kWakeSignal = SIGUSR1;

 private:
  /// What a thread reads from.
  struct Source {
    int fd = -1;          ///< reads without waiting, save where receive() changes that
    unsigned streak = 0;  ///< requests taken without any wait
    AdaptiveSpin eagerness;
  };

  void run();
  int clone_device() const;
  /// False: the connection has ended.
  bool receive_and_handle(Source& source, ReceiveBuffer& buffer);
  /// As read(2). Waits for a request.
  ssize_t receive(Source& source, ReceiveBuffer& buffer);
  ssize_t look(ReceiveBuffer& buffer, int fd, Nanoseconds since);
  /// How many threads should wait for requests.
  int wanted() const;
  void about_to_block();
  void share_work();
  void call_help();
  bool park();

  const int device_fd_;
  const Options options_;
  const Handler handler_;
  const int ended_fd_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> waiting_{0};  // threads that read, or are about to
  std::atomic<Nanoseconds::rep> crowded_until_{0};
  CpuLoad spare_cpu_;
  std::mutex mutex_;
  std::condition_variable parked_wake_, exit_wake_;
  unsigned parked_ = 0, calls_ = 0;   // guarded by mutex_: parked threads, unanswered calls to them
  unsigned running_ = 0;              // guarded by mutex_
  std::vector<std::thread> threads_;  // guarded by mutex_
};

}  // namespace moltfs::fs::fuse
