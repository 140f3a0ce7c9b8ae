// SPDX-License-Identifier: MIT
#include "fs/daemon/end_report.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

#include "alloc/base/log.h"

namespace moltfs::fs::daemon {
namespace {

constexpr int kQueue = 64;
constexpr std::string_view kLineEnded = "ended", kLineDone = "done", kLineFailed = "failed: ";

/// The reason may name devices: only root and the user who mounted get it.
bool may_know(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == getuid());
}

}  // namespace

// ---- The daemon's side

EndReport::EndReport() {
  fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Bound to no name at all, a socket gets an unused abstract one.
  socklen_t size = sizeof address.sun_family;
  const bool listens =
      fd_ >= 0 && bind(fd_, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
      listen(fd_, kQueue) == 0 &&
      getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &(size = sizeof address)) == 0;
  if (listens) {
    spare_ = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    name_.assign(address.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1);
  } else {
    log_warning("umount cannot be told how the last commit ends: {}", text_of_errno(errno));
  }
}

EndReport::~EndReport() {
  for (const int fd : {fd_, spare_}) {
    if (fd >= 0) close(fd);
  }
  for (const int fd : commands_) close(fd);
}

void EndReport::accept_all() {
  for (;;) {
    const int fd = fd_ < 0 ? -1 : accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno == EMFILE && spare_ >= 0) {
      close(std::exchange(spare_, -1));
      continue;
    }
    if (fd < 0) return;
    if (may_know(fd)) {
      commands_.push_back(fd);
    } else {
      close(fd);
    }
  }
}

void EndReport::tell(const std::string& line) {
  accept_all();
  for (const int fd : commands_) {
    (void)!send(fd, line.data(), line.size(), MSG_NOSIGNAL);  // the command may have gone
  }
}

void EndReport::finished(const Result<void>& result) {
  if (result) return tell("done\n");
  std::string why = result.error().message();
  std::replace(why.begin(), why.end(), '\n', ' ');
  tell("failed: " + why + "\n");
}

// ---- The command's side

std::optional<EndWatch> EndWatch::connect(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() + 1 > sizeof address.sun_path) return std::nullopt;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  EndWatch watch(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (watch.fd_ < 0 ||
      ::connect(watch.fd_, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return std::nullopt;
  }
  return watch;
}

EndWatch::EndWatch(EndWatch&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      received_(std::move(other.received_)),
      failure_(std::move(other.failure_)) {}

EndWatch& EndWatch::operator=(EndWatch&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(received_, other.received_);
  std::swap(failure_, other.failure_);
  return *this;
}

EndWatch::~EndWatch() {
  if (fd_ >= 0) close(fd_);
}

std::optional<EndWatch::Event> EndWatch::take_line() {
  for (size_t end = 0; (end = received_.find('\n')) != std::string::npos;) {
    const std::string line = received_.substr(0, end);
    received_.erase(0, end + 1);
    if (line == kLineEnded) return Event::connection_ended;
    if (line == kLineDone) failure_.emplace();
    if (line.starts_with(kLineFailed)) failure_ = line.substr(kLineFailed.size());
  }
  return std::nullopt;
}

EndWatch::Event EndWatch::wait(int milliseconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(milliseconds);
  for (;;) {
    if (const auto event = take_line()) return *event;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd readable{fd_, POLLIN, 0};
    const int ready =
        poll(&readable, 1, milliseconds < 0 ? -1 : static_cast<int>(std::max<long>(left, 0)));
    if (ready == 0) return Event::timeout;
    char text[1024];
    const ssize_t size = ready < 0 ? -1 : recv(fd_, text, sizeof text, 0);
    if (size > 0) {
      received_.append(text, static_cast<size_t>(size));
    } else if (size == 0 || (errno != EINTR && errno != EAGAIN)) {
      return Event::finished;
    }
  }
}

}  // namespace moltfs::fs::daemon
