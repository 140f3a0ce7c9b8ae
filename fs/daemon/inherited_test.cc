// SPDX-License-Identifier: MIT
// Each case runs in a child process, as it changes what a process has inherited.
#include "fs/daemon/inherited.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "test/support/catch.h"

using namespace moltfs::fs::daemon;

namespace {

/// The exit status of a child process that runs `body`; 128 and the signal that ended it.
int status_of_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// Uses `bytes` of the stack.
[[gnu::noinline]] int use_stack(size_t bytes) {
  auto* const memory = static_cast<char*>(__builtin_alloca(bytes));
  std::memset(memory, 1, bytes);
  asm volatile("" : : "r"(memory) : "memory");
  return memory[bytes / 2];
}

void limit_stack(rlim_t bytes) {
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_STACK, &limit);
}

}  // namespace

TEST_CASE("work has a stack of a megabyte at least, whatever the limit is") {
  for (const rlim_t limit : {rlim_t{64} << 10, rlim_t{8} << 20, rlim_t{RLIM_INFINITY}}) {
    const int status = status_of_child([limit] {
      limit_stack(limit);
      return run_on_large_stack([] { return use_stack(1 << 20) + 4; });
    });
    CHECK(status == 5);
  }
}

TEST_CASE("a child process made on the large stack goes on there") {
  const int status = status_of_child([] {
    limit_stack(64 << 10);
    return run_on_large_stack(
        [] { return status_of_child([] { return use_stack(1 << 20) + 2; }) + 3; });
  });
  CHECK(status == 6);
}

TEST_CASE("timers of the parent do not end a daemon") {
  const int status = status_of_child([] {
    const itimerval soon{{}, {0, 50'000}};
    for (const auto timer : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
      setitimer(timer, &soon, nullptr);
    }
    leave_parent();
    usleep(100'000);
    int running = 0;
    for (const auto timer : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
      itimerval left{};
      getitimer(timer, &left);
      running += left.it_value.tv_sec != 0 || left.it_value.tv_usec != 0 ? 1 : 0;
    }
    return running;
  });
  CHECK(status == 0);
}
