// SPDX-License-Identifier: MIT
// What a daemon that an attacker has taken over could still do: in a child process that has entered
// the sandbox, everything that an attacker would try is tried, by a thread that was there before.
#include "fs/daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "alloc/base/sanitizer.h"
#include "test/support/catch.h"

using namespace moltfs::fs::daemon;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = moltfs::kAddressSanitizer;
#endif

/// A thread that runs what it is given.
class Worker {
 public:
  Worker() : thread_([this] { work(); }) {}
  ~Worker() {
    run({});
    thread_.join();
  }
  void run(std::function<void()> job) {
    std::unique_lock lock(mutex_);
    job_ = std::move(job);
    has_job_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !has_job_; });
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return has_job_; });
      const bool ends = !job_;
      if (!ends) job_();
      has_job_ = false;
      changed_.notify_all();
      if (ends) return;
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_job_ = false;
  std::function<void()> job_;
  std::thread thread_;
};

/// Runs `body` in a child process, on a thread that was started before the child entered the
/// sandbox by `enter`. Returns what both report.
std::string in_sandbox_by(const std::function<std::string()>& enter,
                          const std::function<void(std::string& report)>& body) {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    std::string report;
    {
      Worker worker;
      report = enter();
      worker.run([&] { body(report); });
    }
    const bool written = write(ends[1], report.data(), report.size()) >= 0;
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string report;
  char part[4096];
  for (ssize_t size = 0; (size = read(ends[0], part, sizeof part)) > 0;) report.append(part, size);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  return report;
}
std::string in_sandbox(const std::function<void(std::string& report)>& body) {
  const auto enter = [] {
    enter_sandbox();
    return std::string();
  };
  return in_sandbox_by(enter, body);
}

/// Adds `what` to the report unless `result` and errno say that it was refused. Another error would
/// mean that the kernel has looked at the arguments.
void must_fail(std::string& report, const std::string& what, long result) {
  const int err = errno;
  if (result >= 0) {
    report += what + " worked; ";
  } else if (err != EPERM && err != EACCES && err != ENOSYS) {
    report += what + " failed with " + std::to_string(err) + "; ";
  }
}

/// Makes `call` fail with `err` in this process, as on a kernel that does not have it.
void remove_call(int call, int err) {
  const sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(err)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(program), const_cast<sock_filter*>(program)};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}
constexpr int kLandlockCreateRuleset = 444;

/// Block devices of this machine, by path.
std::vector<std::string> block_devices() {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string path = "/dev/" + entry.path().filename().string();
    if (access(path.c_str(), F_OK) == 0) found.push_back(path);
  }
  return found;
}

void try_to_open(std::string& out) {
  for (const std::string path : {"/etc/passwd", "/etc/shadow", "/dev/mem", "/dev/null",
                                 "/proc/self/status", "/proc/self/mem"}) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) continue;
    must_fail(out, "reading " + path, open(path.c_str(), O_RDONLY));
    must_fail(out, "writing " + path, open(path.c_str(), O_WRONLY));
  }
  must_fail(out, "open of a directory", open("/", O_RDONLY | O_DIRECTORY));
  must_fail(out, "creating a file", open("/tmp/moltfs-sandbox", O_RDWR | O_CREAT, 0600));
  must_fail(out, "a file without a name", open("/tmp", O_RDWR | O_TMPFILE, 0600));
}

}  // namespace

TEST_CASE("in the sandbox nothing can be opened, made, connected to, run or signalled") {
  if (kSanitized) return;
  const pid_t parent = getpid();
  const auto devices = block_devices();
  char file[] = "/tmp/moltfs-sandbox.XXXXXX";
  close(mkstemp(file));
  const std::string report = in_sandbox([&](std::string& out) {
    try_to_open(out);
    for (const std::string& path : devices) {
      must_fail(out, "open of " + path, open(path.c_str(), O_RDWR));
      must_fail(out, "reading " + path, open(path.c_str(), O_RDONLY));
    }
    must_fail(out, "open by a new call", syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", "", 24));
    must_fail(out, "creating a directory", mkdir("/tmp/moltfs-sandbox", 0700));
    must_fail(out, "removing a file", unlink("/tmp/moltfs-sandbox-none"));
    must_fail(out, "chmod", chmod(file, 0777));
    must_fail(out, "chown", chown(file, 1, 1));
    must_fail(out, "truncate", truncate(file, 0));
    must_fail(out, "a socket", socket(AF_UNIX, SOCK_STREAM, 0));
    must_fail(out, "a network socket", socket(AF_INET, SOCK_DGRAM, 0));
    char* const words[] = {const_cast<char*>("/bin/true"), nullptr};
    must_fail(out, "exec", execve(words[0], words, words + 1));
    const pid_t forked = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (forked == 0) _exit(0);
    must_fail(out, "fork", forked);
    must_fail(out, "mount", mount("none", "/tmp", "tmpfs", 0, nullptr));
    must_fail(out, "umount", umount2("/tmp", 0));
    must_fail(out, "ptrace", ptrace(PTRACE_ATTACH, parent, nullptr, nullptr));
    must_fail(out, "a look into another process",
              syscall(SYS_process_vm_readv, parent, nullptr, 0, nullptr, 0, 0));
    must_fail(out, "a descriptor of another process", syscall(SYS_pidfd_open, parent, 0));
    must_fail(out, "kill", kill(parent, 0));
    must_fail(out, "tgkill", syscall(SYS_tgkill, parent, parent, 0));
    must_fail(out, "io_uring", syscall(SYS_io_uring_setup, 4, nullptr));
    must_fail(out, "a user namespace", unshare(CLONE_NEWUSER));
    must_fail(out, "bpf", syscall(SYS_bpf, 0, nullptr, 0));
    must_fail(out, "a file handle", syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, 0));
    must_fail(out, "a keyring", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    must_fail(out, "the clock", syscall(SYS_clock_settime, CLOCK_REALTIME, nullptr));
    must_fail(out, "a kernel module", syscall(SYS_init_module, nullptr, 0, ""));
    must_fail(out, "a kernel module from a file", syscall(SYS_finit_module, 0, "", 0));
    must_fail(out, "another kernel", syscall(SYS_kexec_load, 0, 0, nullptr, 0));
    must_fail(out, "another root directory", chroot("/tmp"));
    must_fail(out, "another directory", chdir("/tmp"));
    must_fail(out, "another namespace", setns(0, 0));
    must_fail(out, "a device node", mknod("/tmp/moltfs-sandbox", S_IFBLK | 0600, 0));
    must_fail(out, "a link", symlink("/etc/passwd", "/tmp/moltfs-sandbox"));
    must_fail(out, "an attribute", setxattr("/tmp", "user.moltfs-sandbox", "", 0, 0));
    must_fail(out, "swap", swapon("/tmp/moltfs-sandbox-none", 0));
    must_fail(out, "a restart", reboot(RB_DISABLE_CAD));
    must_fail(out, "a filter of its own", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr));
  });
  unlink(file);
  CHECK(report == "");
}

TEST_CASE("in the sandbox, what is allowed cannot be used in another way") {
  if (kSanitized) return;
  // A server with a datagram socket that has a path, as the system's log.
  const int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/tmp/moltfs-sandbox-%d", getpid());
  REQUIRE(bind(server, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  int stream[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, stream) == 0);
  const std::string report = in_sandbox([&](std::string& out) {
    int pair[2];
    must_fail(out, "a datagram socket", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    must_fail(out, "a raw socket", socketpair(AF_UNIX, SOCK_RAW, 0, pair));
    must_fail(
        out, "sending to an address",
        sendto(stream[0], "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address));
    must_fail(out, "input for a terminal", ioctl(STDIN_FILENO, TIOCSTI, "x"));
    must_fail(out, "input for a console", ioctl(STDIN_FILENO, TIOCLINUX, "\3"));
    int owner = getppid();
    must_fail(out, "signals by a file", fcntl(stream[0], F_SETOWN, owner));
    must_fail(out, "signals by a socket", ioctl(stream[0], FIOSETOWN, &owner));
    must_fail(out, "signals by a socket, too", ioctl(stream[0], SIOCSPGRP, &owner));
    must_fail(out, "another signal by a file", fcntl(stream[0], F_SETSIG, SIGKILL));
    void* const code =
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must_fail(out, "memory with code", code == MAP_FAILED ? -1 : 0);
    void* const data =
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must_fail(out, "data that becomes code", mprotect(data, 4096, PROT_READ | PROT_EXEC));
    must_fail(out, "another kind of process", prctl(PR_SET_DUMPABLE, 1));
    must_fail(out, "limits of another process",
              syscall(SYS_prlimit64, getppid(), RLIMIT_CORE, nullptr, nullptr));
    // A library falls back to older calls if a new one does not exist.
    constexpr long kOfTheFuture = 1000;
    must_fail(out, "a call of the future", syscall(kOfTheFuture));
    if (errno != ENOSYS) out += "a call of the future is refused; ";
    if (syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS) out += "clone3 is refused; ";
  });
  CHECK(report == "");
  unlink(address.sun_path);
  for (const int fd : {server, stream[0], stream[1]}) close(fd);
}

TEST_CASE("a sandbox without Landlock, without seccomp or without an answer still holds") {
  if (kSanitized) return;
  const auto enter = [](std::chrono::milliseconds answer_within = std::chrono::seconds(10)) {
    std::string all;
    for (const std::string& one : enter_sandbox(answer_within)) all += one + "; ";
    return all;
  };
  SECTION("no Landlock: nothing can be opened at all") {
    const int err = GENERATE(ENOSYS, EOPNOTSUPP);
    const std::string report = in_sandbox_by(
        [&] {
          remove_call(kLandlockCreateRuleset, err);
          return enter();
        },
        [](std::string& out) {
          try_to_open(out);
          must_fail(out, "open of /dev/fuse", open("/dev/fuse", O_RDWR));
          must_fail(out, "open of a name only", open("/etc/passwd", O_PATH));
        });
    CHECK(report == "Landlock (this kernel has none, or it is off); ");
  }
  SECTION("no seccomp: files cannot be opened, and there are no capabilities") {
    const std::string report = in_sandbox_by(
        [&] {
          remove_call(SYS_seccomp, ENOSYS);
          return enter();
        },
        [](std::string& out) {
          try_to_open(out);
          must_fail(out, "mount", mount("none", "/tmp", "tmpfs", 0, nullptr));
        });
    CHECK(report.starts_with("a seccomp filter ("));
    CHECK(report.ends_with("); "));
  }
  SECTION("a thread that does not answer: nothing can be opened at all, and it does not wait") {
    std::thread deaf;
    const std::string report = in_sandbox_by(
        [&] {
          std::mutex mutex;
          std::condition_variable changed;
          bool is_deaf = false;
          deaf = std::thread([&] {
            sigset_t all;
            sigfillset(&all);
            pthread_sigmask(SIG_BLOCK, &all, nullptr);
            {
              std::lock_guard lock(mutex);
              is_deaf = true;
              changed.notify_all();
            }
            for (;;) pause();
          });
          deaf.detach();
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] { return is_deaf; });
          lock.unlock();
          return enter(std::chrono::milliseconds(200));
        },
        [](std::string& out) {
          try_to_open(out);
          must_fail(out, "open of /dev/fuse", open("/dev/fuse", O_RDWR));
        });
    CHECK(report == "fewer rights for all threads (there is no /proc, or one does not answer); ");
  }
}

TEST_CASE("in the sandbox there are no capabilities, on no thread") {
  if (kSanitized) return;
  const std::string report = in_sandbox([](std::string& out) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    // Another number for the call than its own thread cannot be asked for: capget is not allowed.
    if (syscall(SYS_capget, &header, data) == 0) out += "capget worked; ";
    must_fail(out, "another user", setuid(65534));
    must_fail(out, "a higher priority", syscall(SYS_setpriority, 0, 0, -5));
  });
  CHECK(report == "");
}

TEST_CASE("the sandbox shows in /proc, on all threads") {
  if (kSanitized) return;
  int go[2];
  REQUIRE(pipe2(go, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    Worker first, second;
    enter_sandbox();
    std::thread later([&] {
      char byte = 0;
      [[maybe_unused]] const auto got = read(go[0], &byte, 1);
    });
    later.join();
    _exit(0);
  }
  const std::string directory = "/proc/" + std::to_string(child);
  std::string all;
  for (int tries = 0; tries < 500; ++tries) {
    all.clear();
    const std::string command = "cat " + directory + "/task/*/status 2>/dev/null";
    FILE* const pipe = popen(command.c_str(), "r");
    char line[256];
    int threads = 0, confined = 0;
    while (fgets(line, sizeof line, pipe) != nullptr) {
      const std::string text = line;
      threads += text.starts_with("Name:") ? 1 : 0;
      confined += text == "Seccomp:\t2\n" ? 1 : 0;
      all += text;
    }
    pclose(pipe);
    if (threads == 4 && confined == 4) break;
    usleep(20'000);
  }
  const auto count = [&](const std::string& wanted) {
    int found = 0;
    for (size_t at = 0; (at = all.find(wanted, at)) != std::string::npos; ++at) ++found;
    return found;
  };
  CHECK(count("Seccomp:\t2\n") == 4);
  CHECK(count("NoNewPrivs:\t1\n") == 4);
  CHECK(count("CapEff:\t0000000000000000\n") == 4);
  CHECK(count("CapPrm:\t0000000000000000\n") == 4);
  REQUIRE(write(go[1], "x", 1) == 1);
  waitpid(child, nullptr, 0);
  close(go[0]);
  close(go[1]);
}

TEST_CASE("a process that asked for it is told when a process in the sandbox dies") {
  if (kSanitized) return;
  int ready[2], told[2];
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  REQUIRE(pipe2(told, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    if (fork() == 0) {  // as the watchdog
      sigset_t signals;
      sigemptyset(&signals);
      sigaddset(&signals, SIGUSR1);
      sigprocmask(SIG_BLOCK, &signals, nullptr);
      prctl(PR_SET_PDEATHSIG, SIGUSR1);
      const timespec timeout{5, 0};
      char answer = write(ready[1], "x", 1) == 1 ? 'n' : 'x';
      if (sigtimedwait(&signals, nullptr, &timeout) == SIGUSR1) answer = 'y';
      _exit(write(told[1], &answer, 1) == 1 ? 0 : 1);
    }
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1) _exit(1);
    enter_sandbox();
    _exit(0);
  }
  close(told[1]);
  char answer = 0;
  CHECK(read(told[0], &answer, 1) == 1);
  CHECK(answer == 'y');
  waitpid(child, nullptr, 0);
  for (const int fd : {ready[0], ready[1], told[0]}) close(fd);
}

TEST_CASE("what the daemon does for its work goes on in the sandbox") {
  if (kSanitized) return;
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  char path[] = "/tmp/moltfs-sandbox.XXXXXX";
  const int file = mkstemp(path);
  unlink(path);
  const std::string report = in_sandbox([&](std::string& out) {
    char byte = 'x';
    if (pwrite(file, &byte, 1, 0) != 1 || fdatasync(file) != 0) out += "no writing; ";
    if (pread(file, &byte, 1, 0) != 1) out += "no reading; ";
    if (fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 4096) != 0) out += "no fallocate; ";
    struct stat status {};
    if (fstat(file, &status) != 0) out += "no fstat; ";
    if (write(pair[0], &byte, 1) != 1 || read(pair[1], &byte, 1) != 1) out += "no sockets; ";
    bool ran = false;
    std::thread thread([&] { ran = true; });
    thread.join();
    if (!ran) out += "no threads; ";
    if (std::vector<char>(64 << 20).size() == 0) out += "no memory; ";
    const int fuse = open("/dev/fuse", O_RDWR);
    if (fuse < 0 && errno != ENOENT && errno != EPERM && errno != EACCES) out += "no /dev/fuse; ";
  });
  CHECK(report == "");
  close(file);
  close(pair[0]);
  close(pair[1]);
}
