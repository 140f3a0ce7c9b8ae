// SPDX-License-Identifier: MIT
// Receive threads: each reads requests from /dev/fuse into a buffer of its own and handles them
// from beginning to end.
//
// The buffer is placed so that what follows the header of a FUSE_WRITE, its payload, begins on a
// page: it goes to the device as it is.
//
//   |<- page ------------------->|<- pages ----------------------------->|
//                    | 80 header | payload of a write, up to 1 MiB        |
//                    ^ request
//
// States of a thread. A *waiting* thread takes the next request, a *handling* one is busy with one,
// a *parked* one is not needed.
//
//                    a request is there
//          poll ------------------------------> handling <-------------- called
//    waiting |      a request came  ^  ^           |  |                    |
//            +--> spin -------------+  |           |  +-- about to block, or a backlog,
//            |      | too long         |           |      and nobody is waiting: calls another
//            +--> sleep ---------------+           |
//           ^       a request came                 +--> enough threads are waiting: parked
//           +----------------- handled ------------+
//
// Waking a thread costs more than a small request. So normally one thread alone waits, and spins
// for a while before it sleeps where that pays (fs/mount/request_load.h) and a CPU is free
// (cpu_load.h). It calls another thread to take its place
//   - before it blocks (alloc/base/blocking.h): slow requests (fsync, the start of a replace, reads
//     from a device) do not delay quick ones;
//   - when it has a backlog: several clients are at work. Then up to `base_threads` wait for a
//     while.
// No more than `max_threads` are started; where the system has no more threads, fewer. Each thread
// has its own clone of the device where the kernel provides it, and a reply goes through the
// descriptor that its request came from.
//
// It ends when the kernel ends the connection (unmount: every read fails with ENODEV), or by
// stop().
#pragma once

#include <signal.h>
#include <sys/uio.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "alloc/base/buffer.h"
#include "fs/fuse/cpu_load.h"
#include "fs/fuse/wire.h"
#include "fs/mount/request_load.h"

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
  /// Handles one whole request: replies before it returns, or keeps what it needs. False: the
  /// request does not count as load.
  using Handler = std::function<bool(std::span<std::byte> request)>;

  Receiver(int device_fd, const Options& options, RequestLoad& load, Handler handler);
  /// stop() and join().
  ~Receiver();

  /// Throws std::system_error if not even kThreadsNeeded threads can be started.
  void start();
  /// Ends all threads as soon as they have handled their requests. Does not wait.
  void stop() { stopping_ = true; }
  /// Waits until all threads have ended.
  void join();
  /// Readable when the connection has ended.
  int ended_fd() const { return ended_fd_; }

  /// The signal that interrupts a thread's read; its handler does nothing.
  static constexpr int kWakeSignal = SIGUSR1;
  /// One may wait for what another one serves.
  static constexpr unsigned kThreadsNeeded = 2;

 private:
  /// Of one receive thread.
  struct Thread {
    const int fd;  ///< reads from it do not wait, except in sleep()
    ReceiveBuffer& buffer;
    RequestLoad::Thread load;
    Nanoseconds free_since;  ///< the last request was handled then
    Nanoseconds taken{0};    ///< this one was taken then
  };

  void run(ReceiveBuffer& buffer);
  int start_thread();
  int clone_device() const;
  /// Waits for a request; its size. Nothing: the connection has ended.
  std::optional<size_t> next_request(Thread& thread);
  ssize_t wait_for_request(Thread& thread);
  // As read(2).
  ssize_t poll(Thread& thread) const;
  ssize_t spin(Thread& thread);
  ssize_t sleep(Thread& thread) const;
  void handle(Thread& thread, size_t size);
  void connection_ended();
  /// How many threads should wait for requests.
  int wanted(Nanoseconds now) const;
  void call_if_nobody_waits();
  bool park();

  const int device_fd_;
  const Options options_;
  RequestLoad& load_;
  const Handler handler_;
  const int ended_fd_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> waiting_{0};  // threads
  CpuLoad cpu_load_;
  std::mutex mutex_;
  std::condition_variable parked_wake_, exit_wake_;
  unsigned parked_ = 0;               // guarded by mutex_: threads
  unsigned calls_ = 0;                // guarded by mutex_: to parked threads, not yet answered
  unsigned running_ = 0;              // guarded by mutex_
  Nanoseconds no_threads_until_{0};   // guarded by mutex_
  std::vector<std::thread> threads_;  // guarded by mutex_
};

}  // namespace moltfs::fs::fuse
