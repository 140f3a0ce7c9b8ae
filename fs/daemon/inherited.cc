// SPDX-License-Identifier: MIT
#include "fs/daemon/inherited.h"

#include <errno.h>
#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>

namespace moltfs::fs::daemon {
namespace {

/// CPU seconds between SIGXCPU and the end of the process: time for the last commit.
constexpr rlim_t kSecondsToStop = 10;
/// Of a thread.
constexpr size_t kStackBytes = 2 << 20;

bool hangup_was_ignored = false;

void reset_signals() {
  struct sigaction action {};
  if (sigaction(SIGHUP, nullptr, &action) == 0) hangup_was_ignored = action.sa_handler == SIG_IGN;
  // Handlers are none of the parent's: only ignored signals are inherited.
  for (int number = 1; number < NSIG; ++number) {
    if (sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) {
      signal(number, SIG_DFL);
    }
  }
  for (const int number : {SIGPIPE, SIGXFSZ}) signal(number, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void stop_timers() {
  for (const auto timer : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
    const itimerval none{};
    setitimer(timer, &none, nullptr);
  }
}

void raise_limits() {
  for (const auto resource : {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC,
                              RLIMIT_MEMLOCK, RLIMIT_STACK}) {
    struct rlimit limit {};
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(resource, &limit);
  }
  struct rlimit cpu {};
  if (getrlimit(RLIMIT_CPU, &cpu) != 0 || cpu.rlim_cur == RLIM_INFINITY) return;
  cpu.rlim_cur = cpu.rlim_max == RLIM_INFINITY
                     ? RLIM_INFINITY
                     : std::max<rlim_t>(cpu.rlim_max, kSecondsToStop + 1) - kSecondsToStop;
  setrlimit(RLIMIT_CPU, &cpu);
}

/// makecontext(3) passes integers only.
struct OnLargeStack {
  const std::function<int()>* work;
  int result;
};
OnLargeStack on_large_stack{};

void run_there() {
  on_large_stack.result = (*on_large_stack.work)();
}

}  // namespace

int run_on_large_stack(const std::function<int()>& work) {
  struct rlimit limit {};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kStackBytes) return work();
  void* const stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) return work();
  mprotect(stack, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE);  // it grows downwards
  // A thread would have such a stack, too, but a process with two threads cannot enter namespaces.
  static ucontext_t here, there;
  getcontext(&there);
  there.uc_stack.ss_sp = stack;
  there.uc_stack.ss_size = kStackBytes;
  there.uc_link = &here;
  on_large_stack.work = &work;
  makecontext(&there, run_there, 0);
  swapcontext(&here, &there);
  return on_large_stack.result;
}

void adapt_to_limits() {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) == 0) {
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
  struct rlimit address_space {};
  const bool is_limited =
      getrlimit(RLIMIT_AS, &address_space) == 0 && address_space.rlim_cur != RLIM_INFINITY;
  if (is_limited) mallopt(M_ARENA_MAX, 2);  // each reserves 64 MiB of addresses
}

void leave_parent() {
  if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0) != 0) {  // before Linux 5.9
    for (int fd = STDERR_FILENO + 1; fd < 65536; ++fd) close(fd);
  }
  (void)!chdir("/");  // without the right to do so, it keeps the one it has
  stop_timers();
  reset_signals();
  raise_limits();
}

Result<int> stop_signals(bool may_ignore_hangup) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGXCPU}) sigaddset(&set, number);
  if (!may_ignore_hangup || !hangup_was_ignored) {
    sigaddset(&set, SIGHUP);
  } else {
    signal(SIGHUP, SIG_IGN);
  }
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const int fd = signalfd(-1, &set, SFD_CLOEXEC);
  if (fd >= 0) return fd;
  return Error(errc_from_errno(errno), fmt::format("signalfd: {}", text_of_errno(errno)));
}

}  // namespace moltfs::fs::daemon
