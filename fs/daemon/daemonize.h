// SPDX-License-Identifier: MIT
// Going into the background. The command that started the daemon returns when the mount is ready,
// or with the daemon's exit code if the mount fails.
#pragma once

#include <functional>
#include <optional>

namespace moltfs::fs::daemon {

/// To be used before the process has started any thread.
class Daemonizer {
 public:
  /// Forks unless `foreground`. In the parent, waits for the child and returns the exit code of the
  /// command. In the child, and in the foreground, returns nothing: the caller becomes the daemon.
  std::optional<int> fork_unless(bool foreground);
  /// To be called when the mount is ready: leaves terminal and session, sends messages to syslog,
  /// calls `confine`, after which nothing can be opened any more, and lets the parent return 0. In
  /// the foreground it only calls `confine`.
  void ready(const std::function<void()>& confine);

 private:
  bool forked_ = false;
  int pipe_ = -1;
};

/// Settings for a process that the kernel's write-back waits for. Its memory allocations do not
/// wait for write-back, which would be a deadlock, and it is killed late when memory is short.
/// Settings that need root are skipped without it. To be called before any thread is started.
void become_io_server();

}  // namespace moltfs::fs::daemon
