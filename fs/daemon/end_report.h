// SPDX-License-Identifier: MIT
// How a daemon tells a waiting umount command how it ended. umount(2) returns before the last commit,
// and the exit status of a daemon is for its parent only.
//
// The daemon listens on an abstract Unix socket; the answer of the endpoint "pid" names it
// (fs/mount/process_identity.h). The command connects before it unmounts. It needs no process
// number and no common PID or mount namespace for that. The daemon sends
//   "ended\n"           the kernel has ended the connection: the filesystem is mounted nowhere
//   "done\n"            the last commit is on the devices, and they are free
//   "failed: WHY\n"     the last commit failed; the devices are free
// and the end of its process closes the connection.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// The daemon's side. It needs no thread: commands that connect wait in the queue of the socket.
class EndReport {
 public:
  /// Begins to listen. Where that fails, commands cannot wait for more than the process.
  EndReport();
  ~EndReport();
  EndReport(const EndReport&) = delete;
  EndReport& operator=(const EndReport&) = delete;

  /// Of the socket; empty if there is none.
  const std::string& name() const { return name_; }

  /// The kernel has ended the connection.
  void connection_ended() { tell("ended\n"); }
  /// The devices are closed. `result`: of the last commit.
  void finished(const Result<void>& result);

 private:
  void accept_all();
  void tell(const std::string& line);

  int fd_ = -1;
  int spare_ = -1;  // given up when the process has no descriptor left for a command
  std::string name_;
  std::vector<int> commands_;  // those that have connected, and may know; until the process ends
};

/// The command's side.
class EndWatch {
 public:
  /// `name`: EndReport::name. Nothing if it cannot be reached, for instance from another network
  /// namespace.
  static std::optional<EndWatch> connect(const std::string& name);
  EndWatch(EndWatch&& other) noexcept;
  EndWatch& operator=(EndWatch&& other) noexcept;
  ~EndWatch();

  enum class Event { connection_ended, finished, timeout };
  /// Waits for the next event; at most `milliseconds` (-1: no limit). After `finished` the process
  /// has ended.
  Event wait(int milliseconds);
  /// Why the last commit failed; empty if it succeeded; nothing if the daemon has not told.
  const std::optional<std::string>& failure() const { return failure_; }

 private:
  explicit EndWatch(int fd) : fd_(fd) {}
  std::optional<Event> take_line();

  int fd_;
  std::string received_;
  std::optional<std::string> failure_;
};

}  // namespace moltfs::fs::daemon
