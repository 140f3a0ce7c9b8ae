// SPDX-License-Identifier: MIT
// getxattr and setxattr of the root of a mount, and pidfds.
#include "fs/daemon/client.h"

#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <sstream>
#include <utility>
#include <vector>

#include "fs/daemon/mounts.h"
#include "fs/mount/control.h"
#include "fs/mount/process_identity.h"

namespace moltfs::fs::daemon {
namespace {

std::string xattr_of(std::string_view endpoint) {
  return fmt::format("{}{}", kControlPrefix, endpoint);
}

}  // namespace

Result<Client> Client::open(const std::string& path) {
  TRY(auto entry, find_moltfs(path));
  return Client(entry.mountpoint);
}

Result<std::string> Client::get(std::string_view endpoint) const {
  std::vector<char> buffer(65536);
  const ssize_t size =
      getxattr(mountpoint_.c_str(), xattr_of(endpoint).c_str(), buffer.data(), buffer.size());
  if (size < 0) return error_of(errno, {});
  return std::string(buffer.data(), static_cast<size_t>(size));
}

Result<Json> Client::get_json(std::string_view endpoint) const {
  TRY(const auto text, get(endpoint));
  auto json = Json::parse(text);
  if (json) return std::move(*json);
  return Error(Errc::io_error,
               fmt::format("{}: the daemon's answer about {} is not JSON", mountpoint_, endpoint));
}

Result<void> Client::set(std::string_view endpoint, std::string_view text) const {
  if (setxattr(mountpoint_.c_str(), xattr_of(endpoint).c_str(), text.data(), text.size(), 0) == 0) {
    return ok();
  }
  return error_of(errno, endpoint);
}

Error Client::error_of(int err, std::string_view endpoint) const {
  const Errc code = errc_from_errno(err);
  if (err == ENOTCONN || err == ECONNABORTED) {
    return Error(
        Errc::device_gone,
        fmt::format("the daemon of {} has died; unmount it and mount it again", mountpoint_));
  }
  // The command itself may have met EPERM: the daemon then has a sentence for those who may command.
  if (!endpoint.empty()) {
    const auto message = get("message");
    if (message && !message.value().empty()) return Error(code, message.value());
  }
  if (err == EPERM || err == EACCES) {
    return Error(code,
                 fmt::format("only root and the user who mounted {} may do that", mountpoint_));
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
  if (handle.fd_ < 0 || process_start_time(pid) != start) return std::nullopt;
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
