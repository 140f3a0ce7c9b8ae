// SPDX-License-Identifier: MIT
// The protocol of /dev/log: "<PRIORITY>Mmm dd hh:mm:ss PROGRAM[PID]: TEXT", local time.
#include "alloc/base/syslog_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

namespace moltfs {
namespace {

constexpr size_t kMaxTextBytes = 2000;

std::string time_text() {
  const time_t now = time(nullptr);
  tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  return {text, strftime(text, sizeof text, "%b %e %H:%M:%S", &parts)};
}

}  // namespace

SyslogSocket::SyslogSocket(std::string path) : path_(std::move(path)) {}

SyslogSocket::~SyslogSocket() {
  disconnect();
}

void SyslogSocket::disconnect() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

bool SyslogSocket::connect(int type) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  fd_ = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) return false;
  is_stream_ = type == SOCK_STREAM;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  const int error = errno;
  disconnect();
  errno = error;
  return false;
}

bool SyslogSocket::connect() {
  return connect(SOCK_DGRAM) || (errno == EPROTOTYPE && connect(SOCK_STREAM));
}

bool SyslogSocket::send(int priority, std::string_view program, std::string_view text) {
  std::string message = fmt::format("<{}>{} {}[{}]: {}", LOG_DAEMON | priority, time_text(),
                                    program, getpid(), text.substr(0, kMaxTextBytes));
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (fd_ < 0 && !connect()) return false;
    const size_t size = message.size() + (is_stream_ ? 1 : 0);
    const ssize_t sent = ::send(fd_, message.c_str(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(size)) return true;
    const bool is_full = sent < 0 && (errno == EAGAIN || errno == ENOBUFS);
    if (is_full) return false;
    disconnect();  // the log daemon has gone, or got a part of the message
  }
  return false;
}

}  // namespace moltfs
