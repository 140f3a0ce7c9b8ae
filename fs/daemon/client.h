// SPDX-License-Identifier: MIT
// The other side of the control (fs/mount/control.h): how the command line talks to the daemon of a
// mount, through attributes of its root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

class Client {
 public:
  /// `path`: where the moltfs is mounted. Errors: as find_moltfs.
  static Result<Client> open(const std::string& path);

  const std::string& mountpoint() const { return mountpoint_; }
  /// What a door says: "replace", "usage", ...
  Result<std::string> get(std::string_view door) const;
  /// Tells a door something. The error has the daemon's sentence.
  Result<void> set(std::string_view door, std::string_view text) const;

 private:
  explicit Client(std::string mountpoint) : mountpoint_(std::move(mountpoint)) {}
  Error error_of(int err, std::string_view door) const;

  std::string mountpoint_;
};

/// A process that is alive, held so that its number cannot pass to another.
class ProcessHandle {
 public:
  ProcessHandle() = default;
  ProcessHandle(ProcessHandle&& other) noexcept;
  ProcessHandle& operator=(ProcessHandle&& other) noexcept;
  ~ProcessHandle();

  /// From "PID STARTTIME"; nothing if there is no such process (any more).
  static std::optional<ProcessHandle> open(const std::string& identity);
  /// Waits until it has ended; false after `milliseconds` (-1: no limit).
  bool wait(int milliseconds) const;
  int pid() const { return pid_; }

 private:
  int fd_ = -1;
  int pid_ = 0;
};

}  // namespace moltfs::fs::daemon
