// SPDX-License-Identifier: MIT
// The watchdog: a child process that ends the connection of a daemon that was killed.
//
// The kernel ends a FUSE connection when the last descriptor of it is closed, hence when the last
// thread of the daemon is gone. A thread that waits in the kernel for pages to be written back
// (fs/fuse/deferred_replies.h) never goes if the daemon is killed: nobody is left to write them back. All who
// use the mount would hang. The watchdog is told by the kernel when the daemon's main thread dies,
// and aborts the connection by its file in fusectl: every call then fails with ENOTCONN, as after
// any crash of a FUSE daemon.
//
// It is a program of its own (the same file, called "moltfs-watchdog"), so it holds nothing of the
// daemon's: no device, no directory, no terminal. When the daemon ends by itself it goes with it.
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

  /// Starts it, from the thread that lives as long as the process. `device_number`: "MAJOR:MINOR"
  /// of the mount. Where it cannot be started there is none.
  void start(const std::string& device_number, const std::string& mountpoint);
  /// All is well: it ends.
  void dismiss();

 private:
  pid_t process_ = -1;
  int pipe_ = -1;
};

/// The watchdog itself: moltfs-watchdog CONNECTION MOUNTPOINT, with a pipe from the daemon as its
/// standard input. Returns its exit code.
int guard_connection(int argc, char** argv);

}  // namespace moltfs::fs::daemon
