// SPDX-License-Identifier: MIT
// Forking, readiness, and the process's own settings.
#include "fs/daemon/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "alloc/base/log.h"
#include "alloc/base/standard_streams.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace moltfs::fs::daemon {
namespace {

/// What the parent does: waits for the byte or the end of the child. Returns the exit code.
int wait_for_child(pid_t child, int pipe) {
  char byte = 0;
  ssize_t got = 0;
  do {
    got = read(pipe, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) return 0;
  for (;;) {
    int status = 0;
    if (waitpid(child, &status, 0) != child) {
      if (errno == EINTR) continue;
      return 2;
    }
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    log_error("mount: the daemon was killed ({})", strsignal(WTERMSIG(status)));
    return 2;
  }
}

}  // namespace

std::optional<int> Daemonizer::fork_unless(bool foreground) {
  if (foreground) return std::nullopt;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    log_error("mount: pipe: {}", strerror(errno));
    return 2;
  }
  const pid_t child = fork();
  if (child < 0) {
    log_error("mount: fork: {}", strerror(errno));
    return 2;
  }
  if (child > 0) {
    close(ends[1]);
    return wait_for_child(child, ends[0]);
  }
  close(ends[0]);
  pipe_ = ends[1];
  forked_ = true;
  return std::nullopt;
}

void Daemonizer::ready(const std::function<void()>& confine) {
  if (!forked_) return confine();
  setsid();
  log_to_syslog();
  release_standard_descriptors();
  confine();
  const char byte = 1;
  if (write(pipe_, &byte, 1) != 1)
    log_warning("the mount command has ended before the mount was ready");
  close(pipe_);
  forked_ = false;
}

void become_io_server() {
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  std::ofstream("/proc/self/oom_score_adj") << -500 << std::flush;
}

}  // namespace moltfs::fs::daemon
