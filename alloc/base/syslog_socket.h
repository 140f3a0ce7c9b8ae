// SPDX-License-Identifier: MIT
// Messages to the system's log that never wait. syslog(3) waits if nobody reads the socket, and with
// it every thread that has something to say.
#pragma once

#include <string>
#include <string_view>

namespace moltfs {

/// Not thread-safe.
class SyslogSocket {
 public:
  /// `path`: where the log daemon listens. It is connected when there is something to send, again
  /// after the log daemon was restarted.
  explicit SyslogSocket(std::string path = "/dev/log");
  ~SyslogSocket();
  SyslogSocket(const SyslogSocket&) = delete;
  SyslogSocket& operator=(const SyslogSocket&) = delete;

  /// Sends one message of `program`. `priority`: LOG_ERR, ...; the facility is LOG_DAEMON. False: it
  /// was dropped, because there is no log daemon or it does not read.
  bool send(int priority, std::string_view program, std::string_view text);

 private:
  bool connect();
  bool connect(int type);
  void disconnect();

  const std::string path_;
  int fd_ = -1;
  bool is_stream_ = false;  // then messages end with a NUL
};

}  // namespace moltfs
