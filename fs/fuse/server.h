// SPDX-License-Identifier: MIT
// The server: offers a mounted volume (fs/mount/mount.h) to the kernel as a filesystem at a mount
// point. The interface for the daemon; this header does not include libfuse.
//
//   mount() -> start() -> ... unmounted: ended_fd() is readable -> shut_down()
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/control.h"
#include "fs/mount/mount.h"

namespace moltfs::fs::fuse {

class Server {
 public:
  struct Options {
    std::string mountpoint;     ///< absolute
    std::string options;        ///< for the kernel and libfuse, as after "-o"
    unsigned base_threads = 0;  ///< 0: by the number of CPUs
    unsigned max_threads = 16;
    Control::Options control;
    bool idle_polling = true;  ///< -o idlepoll (cpu_latency.h)
  };

  /// Mounts; requests wait until start(). `mount` must live longer. fusermount3 prints its reasons to
  /// standard error. Errors: not_supported, not_permitted, invalid_argument, with a sentence.
  static Result<std::unique_ptr<Server>> mount(Mount& mount, const Options& options);
  ~Server();

  /// Throws std::system_error if too few threads can be started.
  void start();
  /// Waits until the kernel and the server have agreed on the connection; false after `seconds`.
  bool wait_until_initialized(unsigned seconds);
  /// Readable when the kernel has ended the connection: the filesystem was unmounted.
  int ended_fd() const;
  /// The most that the kernel may hold of this mount in its writeback cache (low_space.h).
  void set_cache_limit(uint64_t bytes);
  /// Finishes the requests under way and closes the connection. Does not unmount: a mount that
  /// still exists fails with ENOTCONN from then on.
  void shut_down();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::fs::fuse
