// SPDX-License-Identifier: MIT
#include "alloc/base/log.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>
#include <vector>

#include "alloc/base/assert.h"
#include "test/support/catch.h"

namespace moltfs {
namespace {

struct Ended {
  int status = 0;
  std::string error_output;
};

// Runs `body` in a child process and returns how it ended and what it wrote to standard error.
template <class Body>
Ended in_child(Body body) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);  // not the handler of Catch
    body();
    _exit(0);
  }
  close(ends[1]);
  Ended ended;
  std::array<char, 256> buffer;
  for (ssize_t n = 0; (n = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    ended.error_output.append(buffer.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  REQUIRE(waitpid(child, &ended.status, 0) == child);
  return ended;
}

TEST_CASE("lines of every level go to standard error") {
  const Ended ended = in_child([] {
    log_info("{} of {}", 1, "two");
    log_warning("careful");
    log_error("100% {}", "wrong");
  });
  CHECK(ended.error_output == "moltfs: 1 of two\nmoltfs: careful\nmoltfs: 100% wrong\n");
}

TEST_CASE("no line holds what a terminal would obey") {
  const Ended ended = in_child([] { log_info("{}: damaged", "\x1b[31m\ncaf\xe9"); });
  CHECK(ended.error_output == "moltfs: \\x1b[31m\\x0acaf\\xe9: damaged\n");
  std::string seen;
  set_log_sink([&](LogLevel, const std::string& text) { seen = text; });
  log_info("a\rb");
  set_log_sink({});
  CHECK(seen == "a\\x0db");
}

TEST_CASE("a sink gets all lines until it is removed") {
  std::vector<std::pair<LogLevel, std::string>> lines;
  set_log_sink([&](LogLevel level, const std::string& text) { lines.emplace_back(level, text); });
  log_error("one");
  log_line(LogLevel::info, "two");
  set_log_sink({});
  CHECK(lines == std::vector<std::pair<LogLevel, std::string>>{{LogLevel::error, "one"},
                                                               {LogLevel::info, "two"}});
}

TEST_CASE("a failed assertion logs its expression and place, and ends the program") {
  const int two = 2;
  ASSERT(two == 2);
  const Ended ended = in_child([&] { ASSERT(two == 3); });
  CHECK(WIFSIGNALED(ended.status));
  CHECK(WTERMSIG(ended.status) == SIGABRT);
  CHECK(ended.error_output.find("assertion failed: two == 3 (") != std::string::npos);
  CHECK(ended.error_output.find("log_test.cc:") != std::string::npos);
}

}  // namespace
}  // namespace moltfs
