// SPDX-License-Identifier: MIT
// Talking to the daemon through attributes of the mount's root.
#include "fs/daemon/client.h"

#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "fs/daemon/mounts.h"

namespace moltfs::fs::daemon {
namespace {

std::string attribute_of(std::string_view door) {
  return fmt::format("user.moltfs.{}", door);
}

/// Start time of a process, as in field 22 of its stat file; empty if it is gone.
std::string start_time_of(int pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return {};
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string word;
  for (int field = 3; field <= 22; ++field) fields >> word;
  return word;
}

}  // namespace

Result<Client> Client::open(const std::string& path) {
  TRY(auto entry, find_moltfs(path));
  return Client(entry.mountpoint);
}

Result<std::string> Client::get(std::string_view door) const {
  std::vector<char> buffer(65536);
  const ssize_t size =
      getxattr(mountpoint_.c_str(), attribute_of(door).c_str(), buffer.data(), buffer.size());
  if (size < 0) return error_of(errno, {});
  return std::string(buffer.data(), static_cast<size_t>(size));
}

Result<void> Client::set(std::string_view door, std::string_view text) const {
  if (setxattr(mountpoint_.c_str(), attribute_of(door).c_str(), text.data(), text.size(), 0) == 0) {
    return ok();
  }
  return error_of(errno, door);
}

Error Client::error_of(int err, std::string_view door) const {
  const Errc code = errc_from_errno(err);
  if (err == ENOTCONN || err == ECONNABORTED) {
    return Error(
        Errc::device_gone,
        fmt::format("the daemon of {} is gone; unmount it and mount it again", mountpoint_));
  }
  if (err == EPERM || err == EACCES) {
    return Error(code,
                 fmt::format("only root and the user who mounted {} may do that", mountpoint_));
  }
  if (!door.empty()) {
    const auto message = get("message");
    if (message && !message.value().empty()) return Error(code, message.value());
  }
  return Error(code, fmt::format("{}: {}", mountpoint_, strerror(err)));
}

ProcessHandle::ProcessHandle(ProcessHandle&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pid_(other.pid_) {}

ProcessHandle& ProcessHandle::operator=(ProcessHandle&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(pid_, other.pid_);
  return *this;
}

ProcessHandle::~ProcessHandle() {
  if (fd_ >= 0) close(fd_);
}

std::optional<ProcessHandle> ProcessHandle::open(const std::string& identity) {
  std::istringstream words(identity);
  int pid = 0;
  std::string start;
  if (!(words >> pid >> start) || pid <= 0) return std::nullopt;
  ProcessHandle handle;
  handle.pid_ = pid;
  handle.fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (handle.fd_ < 0 || start_time_of(pid) != start) return std::nullopt;
  return handle;
}

bool ProcessHandle::wait(int milliseconds) const {
  pollfd poll_fd{fd_, POLLIN, 0};
  for (;;) {
    const int ready = poll(&poll_fd, 1, milliseconds);
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

}  // namespace moltfs::fs::daemon
