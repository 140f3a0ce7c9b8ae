// SPDX-License-Identifier: MIT
// The server: a mounted volume (fs/mount/mount.h) put before the kernel as a filesystem at a mount point.
// What the daemon uses; this header knows no libfuse.
//
//   mount() -> start() -> ... unmounted by somebody: ended_fd() readable -> shut_down()
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/mount.h"

namespace moltfs::fs::fuse {

class Server {
 public:
  struct Options {
    std::string mountpoint;     ///< absolute
    std::string options;        ///< for the kernel and libfuse, as after "-o"
    unsigned base_threads = 0;  ///< 0: by the number of CPUs
    unsigned max_threads = 16;
    uint32_t owner = 0;        ///< the user who mounts
    bool idle_polling = true;  ///< idle_polling.h
  };

  /// Mounts; requests wait until start(). `mount` must live longer. libfuse may print a reason to
  /// standard error. Errors: not_supported, not_permitted.
  static Result<std::unique_ptr<Server>> mount(Mount& mount, const Options& options);
  ~Server();

  void start();
  /// Waits until the kernel and the server have agreed on the connection; false after `seconds`.
  bool wait_until_initialized(unsigned seconds);
  /// Readable when the kernel has ended the connection: the filesystem was unmounted.
  int ended_fd() const;
  /// How much the kernel may hold of this mount in its writeback cache (low_space.h).
  void set_cache_limit(uint64_t bytes);
  /// Serves no more; requests under way are finished, the connection is closed. Does not unmount:
  /// a mount that is still there is dead from then on.
  void shut_down();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::fs::fuse
