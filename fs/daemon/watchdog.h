// SPDX-License-Identifier: MIT
// The watchdog: a child process that aborts the FUSE connection if the daemon is killed.
//
// The kernel ends a FUSE connection when its last descriptor is closed, that is when the last
// thread of the daemon has ended. A thread that waits in the kernel for pages to be written back
// (fs/fuse/deferred_replies.h) never ends if the daemon is killed, because the daemon itself would
// have to write them. All programs that use the mount would hang. The kernel tells the watchdog
// when the daemon's main thread dies, and the watchdog aborts the connection through fusectl. Then
// every call fails with ENOTCONN, as after any crash of a FUSE daemon.
//
// It is a program of its own (the same file under the name "moltfs-watchdog") and holds none of the
// daemon's devices, directories or terminals. When the daemon ends normally, the watchdog ends,
// too.
#pragma once

#include <sys/types.h>

#include <string>

namespace moltfs::fs::daemon {

class Watchdog {
 public:
  Watchdog() = default;
  ~Watchdog() { dismiss(); }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Starts the watchdog. REQUIRES: called by the main thread. `device_number`: "MAJOR:MINOR" of
  /// the mount. If that fails, a warning is logged and there is no watchdog.
  void start(const std::string& device_number, const std::string& mountpoint);
  /// Ends the watchdog: the daemon is about to end normally.
  void dismiss();

 private:
  pid_t process_ = -1;
  int pipe_ = -1;
};

/// The program moltfs-watchdog CONNECTION MOUNTPOINT. Its standard input is a pipe from the daemon.
/// Returns the exit code.
int guard_connection(int argc, char** argv);

}  // namespace moltfs::fs::daemon
