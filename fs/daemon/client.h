// SPDX-License-Identifier: MIT
// How the command line talks to the daemon of a mount: by an ioctl of the root, or for long answers
// through its xattrs. Both lead to the control interface (fs/mount/control.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "alloc/base/json.h"

namespace moltfs::fs::daemon {

class Client {
 public:
  /// `path`: where a moltfs is mounted. Errors: those of find_moltfs.
  static Result<Client> open(const std::string& path);

  const std::string& mountpoint() const { return mountpoint_; }
  /// The answer of an endpoint: "replace", "usage", ... Errors: device_gone (the daemon is dead),
  /// not_permitted, io_error; with a sentence.
  Result<std::string> get(std::string_view endpoint) const;
  /// The answer of an endpoint that answers with JSON. Errors: as get; io_error if it is not JSON.
  Result<Json> get_json(std::string_view endpoint) const;
  /// Gives a command to an endpoint. Errors: as get, and those of the command with the daemon's
  /// sentence.
  Result<void> set(std::string_view endpoint, std::string_view text) const;
  /// Gives the command "start ...", with the target at `path` opened by this process: its rights
  /// and its mount namespace count. Errors: as set, and those of opening a device.
  Result<void> start_replace(std::string_view text, const std::string& path) const;

 private:
  explicit Client(std::string mountpoint) : mountpoint_(std::move(mountpoint)) {}
  Result<std::string> call(bool is_set, std::string_view endpoint, std::string_view text,
                           int socket) const;
  Error error_of(int err, const std::string& sentence) const;

  std::string mountpoint_;
};

/// A running process, held so that its number cannot be used for another one.
class ProcessHandle {
 public:
  ProcessHandle() = default;
  ProcessHandle(ProcessHandle&& other) noexcept;
  ProcessHandle& operator=(ProcessHandle&& other) noexcept;
  ~ProcessHandle();

  /// `identity`: as of fs/mount/process_identity.h. Nothing if this process sees no such process.
  static std::optional<ProcessHandle> open(const std::string& identity);
  /// Waits until the process has ended; false after `milliseconds` (-1: no limit).
  bool wait(int milliseconds) const;
  int pid() const { return pid_; }

 private:
  int fd_ = -1;
  int pid_ = 0;
};

}  // namespace moltfs::fs::daemon
