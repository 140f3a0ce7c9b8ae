// SPDX-License-Identifier: MIT
// What a daemon that an attacker has taken over could still do: in a child process that has entered
// the sandbox, everything that an attacker would try is tried, by a thread that was there before.
#include "fs/daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

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
/// sandbox. Returns what it wrote to `report`.
std::string in_sandbox(const std::function<void(std::string& report)>& body) {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    std::string report;
    {
      Worker worker;
      enter_sandbox();
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

/// Adds `what` to the report if `result` says that it worked.
void must_fail(std::string& report, const char* what, long result) {
  if (result >= 0) report += std::string(what) + " worked; ";
}

}  // namespace

TEST_CASE("in the sandbox nothing can be opened, made, connected to, run or signalled") {
  if (kSanitized) return;
  const pid_t parent = getpid();
  const std::string report = in_sandbox([&](std::string& out) {
    must_fail(out, "open for reading", open("/etc/passwd", O_RDONLY));
    must_fail(out, "open by an old call", syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", "", 24));
    must_fail(out, "open of /proc", open("/proc/self/status", O_RDONLY));
    must_fail(out, "open of a memory", open("/proc/self/mem", O_RDWR));
    must_fail(out, "open of a directory", open("/", O_RDONLY | O_DIRECTORY));
    must_fail(out, "creating a file", open("/tmp/moltfs-sandbox", O_RDWR | O_CREAT, 0600));
    must_fail(out, "creating a directory", mkdir("/tmp/moltfs-sandbox", 0700));
    must_fail(out, "removing a file", unlink("/tmp/moltfs-sandbox-none"));
    must_fail(out, "chmod", chmod("/tmp", 01777));
    must_fail(out, "truncate", truncate("/etc/passwd", 0));
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
  });
  CHECK(report == "");
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
