// SPDX-License-Identifier: MIT
// Going into the background: the command that started the daemon returns when the mount is ready,
// or with the daemon's exit code if it never gets there.
#pragma once

#include <optional>

namespace moltfs::fs::daemon {

/// What the process is told before it has any thread.
class Daemonizer {
 public:
  /// Forks unless `foreground`. In the parent: waits for the child, and returns the exit code of
  /// the command. In the child (or in the foreground) nothing: go on.
  std::optional<int> fork_unless(bool foreground);
  /// The mount is ready: leaves terminal and session, output goes to syslog, the parent returns.
  void ready();

 private:
  bool forked_ = false;
  int pipe_ = -1;
};

/// Settings of a process on whose answers the kernel's write-back waits: memory is had without
/// waiting for that write-back, and the process is not the first to be killed. Where not allowed
/// things stay as they are. Before any thread is started.
void become_io_server();

}  // namespace moltfs::fs::daemon
