// SPDX-License-Identifier: MIT
// Starting the watchdog, and the program itself.
#include "fs/daemon/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "alloc/base/log.h"

namespace moltfs::fs::daemon {
namespace {

constexpr const char* kName = "moltfs-watchdog";
constexpr int kParentDied = SIGUSR1;

/// A descriptor of fusectl, which is mounted on no directory for this; -1 on failure. Needs root.
int mount_fusectl() {
  const auto context = static_cast<int>(syscall(SYS_fsopen, "fusectl", FSOPEN_CLOEXEC));
  if (context < 0) return -1;
  int root = -1;
  if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0) {
    root = static_cast<int>(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0));
  }
  close(context);
  return root;
}

/// Opens the file that aborts the connection. It is opened in advance, because then it stays that
/// of this connection, also if something else is mounted there later; -1 on failure.
int open_abort_file(const std::string& connection) {
  const std::string name = connection + "/abort";
  const int file = open(("/sys/fs/fuse/connections/" + name).c_str(), O_WRONLY | O_CLOEXEC);
  if (file >= 0) return file;
  const int root = mount_fusectl();
  if (root < 0) return -1;
  const int own = openat(root, name.c_str(), O_WRONLY | O_CLOEXEC);
  close(root);
  return own;
}

/// Closes everything inherited from the daemon except the pipe.
void close_inherited() {
  setsid();
  if (chdir("/") != 0) _exit(1);
  const int null = open("/dev/null", O_RDWR);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) dup2(null, fd);
  syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
}

}  // namespace

void Watchdog::start(const std::string& device_number, const std::string& mountpoint) {
  const size_t colon = device_number.find(':');
  int ends[2];
  if (colon == std::string::npos || pipe2(ends, O_CLOEXEC) != 0) return;
  std::string name = kName, connection = device_number.substr(colon + 1), path = mountpoint;
  char* arguments[] = {name.data(), connection.data(), path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
  const int error = posix_spawn(&process_, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[0]);
  pipe_ = ends[1];
  if (error == 0) return;
  log_warning("no watchdog: {}", strerror(error));
  process_ = -1;
}

void Watchdog::dismiss() {
  if (pipe_ >= 0) close(std::exchange(pipe_, -1));
  if (process_ < 0) return;
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
}

int guard_connection(int argc, char** argv) {
  if (argc != 3) return 1;
  prctl(PR_SET_NAME, kName);
  // Signals that stop daemons and sessions do not stop the watchdog: the daemon may still need it.
  sigset_t all, died;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  // If the daemon died before this call, the pipe tells.
  prctl(PR_SET_PDEATHSIG, kParentDied);
  close_inherited();
  const int abort_file = open_abort_file(argv[1]);
  if (abort_file < 0) return 1;
  sigemptyset(&died);
  sigaddset(&died, kParentDied);
  pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {signalfd(-1, &died, SFD_CLOEXEC), POLLIN, 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  if (fds[1].revents == 0) return 0;
  return write(abort_file, "1", 1) == 1 ? 0 : 1;
}

}  // namespace moltfs::fs::daemon
