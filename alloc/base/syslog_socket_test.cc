// SPDX-License-Identifier: MIT
#include "alloc/base/syslog_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "test/support/catch.h"

namespace moltfs {
namespace {

/// Plays the log daemon.
class Listener {
 public:
  Listener()
      : path_(fmt::format("{}/moltfs-log-{}", std::filesystem::temp_directory_path().string(),
                          getpid())) {
    listen();
  }
  ~Listener() { end(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void listen() {
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    REQUIRE(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  void end() {
    close(fd_);
    unlink(path_.c_str());
  }
  std::string receive() const {
    char text[4096];
    const ssize_t size = recv(fd_, text, sizeof text, 0);
    return size < 0 ? std::string() : std::string(text, static_cast<size_t>(size));
  }
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
  int fd_ = -1;
};

TEST_CASE("a message has priority, time, program and process") {
  const Listener listener;
  SyslogSocket log(listener.path());
  REQUIRE(log.send(LOG_WARNING, "moltfs", "careful"));
  const std::string message = listener.receive();
  CHECK(message.starts_with("<28>"));  // daemon, warning
  const std::string end = fmt::format(" moltfs[{}]: careful", getpid());
  REQUIRE(message.size() == 4 + std::strlen("Nov  1 12:00:00") + end.size());
  CHECK(message.ends_with(end));
}

TEST_CASE("messages that nobody reads are dropped, and nothing waits") {
  const Listener listener;
  SyslogSocket log(listener.path());
  unsigned sent = 0;
  while (sent < 100'000 && log.send(LOG_INFO, "moltfs", "again")) ++sent;
  CHECK(sent > 0);
  CHECK(sent < 100'000);
  CHECK(!listener.receive().empty());  // now there is room
  CHECK(log.send(LOG_INFO, "moltfs", "again"));
}

TEST_CASE("a log daemon may be absent, come later, and be restarted") {
  Listener listener;
  SyslogSocket log(listener.path());
  listener.end();
  CHECK_FALSE(log.send(LOG_INFO, "moltfs", "one"));
  listener.listen();
  CHECK(log.send(LOG_INFO, "moltfs", "two"));
  listener.end();
  listener.listen();
  CHECK(log.send(LOG_INFO, "moltfs", "three"));
  CHECK(listener.receive().ends_with(": three"));
}

}  // namespace
}  // namespace moltfs
