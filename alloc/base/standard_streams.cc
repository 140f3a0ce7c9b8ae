// SPDX-License-Identifier: MIT
#include "alloc/base/standard_streams.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>

namespace moltfs {
namespace {

/// A descriptor that can neither be read nor written, even where there is no /dev.
int open_nothing() {
  return open("/", O_PATH | O_CLOEXEC);
}

bool can_write_now(int fd) {
  pollfd wanted{fd, POLLOUT, 0};
  return poll(&wanted, 1, 0) == 1 && (wanted.revents & POLLOUT) != 0;
}

}  // namespace

void occupy_standard_descriptors() {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // open() takes the lowest free number, which is `fd`.
    const int opened = open_nothing();
    if (opened >= 0) fcntl(opened, F_SETFD, 0);
  }
}

void release_standard_descriptors() {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 && (errno == EMFILE || errno == ENFILE)) {
    close(STDIN_FILENO);  // open() takes this number
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null == STDIN_FILENO) fcntl(null, F_SETFD, 0);
  }
  if (null < 0) null = open_nothing();
  if (null < 0) return;
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (fd != null) dup2(null, fd);
  }
  if (null > STDERR_FILENO) close(null);
}

void write_to_standard_error(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (written < 0 && errno == EAGAIN) {
      pollfd wanted{STDERR_FILENO, POLLOUT, 0};
      if (poll(&wanted, 1, -1) < 0 && errno != EINTR) return;
    } else if (written == 0 || errno != EINTR) {
      return;
    }
  }
}

void offer_to_standard_error(std::string_view text) {
  // One at a time: a pipe that can be written has room for PIPE_BUF bytes.
  static std::mutex& mutex = *new std::mutex;
  std::lock_guard lock(mutex);
  if (!can_write_now(STDERR_FILENO)) return;
  // One write(2), so that lines of several processes do not mix.
  [[maybe_unused]] const auto written =
      write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
}

}  // namespace moltfs
