// SPDX-License-Identifier: MIT
// Landlock by its system calls, the seccomp filter as a program, and a signal that confines threads.
#include "fs/daemon/sandbox.h"

#include <asm/ioctls.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <set>

#include "alloc/base/descriptor.h"
#include "alloc/base/error.h"
#include "alloc/base/sanitizer.h"
#include "alloc/base/small_file.h"
#include "fs/mount/process_identity.h"

// Older headers lack some of these. Values: include/uapi/linux/landlock.h of Linux 6.12.
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#if defined(__x86_64__)
#define MOLTFS_AUDIT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MOLTFS_AUDIT_ARCH AUDIT_ARCH_AARCH64
#endif

namespace moltfs::fs::daemon {
namespace {

// Sanitizers look into the process by ptrace(2), and read files.
#if defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = kAddressSanitizer;
#endif

// ---- Landlock

struct RulesetAttributes {
  uint64_t handled_files = 0, handled_network = 0, scoped = 0;
};
struct __attribute__((packed)) PathBeneath {
  uint64_t allowed = 0;
  int32_t parent = -1;
};
constexpr int kRulePathBeneath = 1;
constexpr uint64_t kWriteFile = 1 << 1, kReadFile = 1 << 2, kIoctlDevice = 1 << 15;
/// All rights on files of the version (ABI) with this index.
constexpr uint64_t kFileRights[] = {0, 0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF};
constexpr uint64_t kBindAndConnectTcp = 3;  // from version 4 on
/// From version 6 on. Not signals: with them, the watchdog would not get the signal that the kernel
/// sends it in the name of a daemon that dies. The filter allows no signal to another process.
constexpr uint64_t kAbstractSockets = 1;

/// A ruleset that allows /dev/fuse alone, which receive threads open; none if Landlock is missing.
Descriptor make_ruleset() {
  const auto version =
      static_cast<int>(syscall(SYS_landlock_create_ruleset, nullptr, 0, 1U /* asks for it */));
  if (version < 1) return Descriptor();
  RulesetAttributes attributes;
  attributes.handled_files = kFileRights[std::min(version, 5)];
  if (version >= 4) attributes.handled_network = kBindAndConnectTcp;
  if (version >= 6) attributes.scoped = kAbstractSockets;
  const size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  Descriptor ruleset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, size, 0U)));
  const Descriptor fuse(open("/dev/fuse", O_PATH | O_CLOEXEC));
  if (ruleset && fuse) {
    PathBeneath rule;
    rule.allowed = attributes.handled_files & (kReadFile | kWriteFile | kIoctlDevice);
    rule.parent = fuse.get();
    syscall(SYS_landlock_add_rule, ruleset.get(), kRulePathBeneath, &rule, 0U);
  }
  return ruleset;
}

// ---- seccomp

enum class Check : uint8_t {
  none,         ///< always allowed
  own_process,  ///< the first argument is this process
  names,        ///< prctl: only PR_SET_NAME and the like
  thread,       ///< clone: only threads
  no_code,      ///< mmap, mprotect: no memory that can be executed
  no_terminal,  ///< ioctl: no input put into a terminal, no signals by files
  no_owner,     ///< fcntl: no signals by files
  no_datagram,  ///< socketpair: a datagram socket could send to any address
  no_address,   ///< sendto: only what is connected
  no_call,      ///< ENOSYS, for this call and all with a higher number
};
struct Call {
  int number;
  Check check = Check::none;
};

/// Reading, writing, waiting, memory and threads. What takes a path only asks for attributes. All
/// else fails with EPERM: a call that a library makes now and then must not end the daemon.
const std::vector<Call>& allowed_calls() {
  static const std::vector<Call> calls = {
    // Data
    {SYS_read},
    {SYS_write},
    {SYS_readv},
    {SYS_writev},
    {SYS_pread64},
    {SYS_pwrite64},
    {SYS_preadv},
    {SYS_pwritev},
    {SYS_preadv2},
    {SYS_pwritev2},
    {SYS_lseek},
    {SYS_fsync},
    {SYS_fdatasync},
    {SYS_sync_file_range},
    {SYS_fallocate},
    {SYS_fadvise64},
    {SYS_ioctl, Check::no_terminal},
    {SYS_fcntl, Check::no_owner},
    {SYS_close},
    {SYS_dup},
    {SYS_dup3},
    {SYS_fstat},
    {SYS_newfstatat},
    {SYS_statx},
    {SYS_fstatfs},
    {SYS_io_uring_enter},
    {SYS_splice},
    {SYS_pipe2},
    {SYS_eventfd2},
    // Sockets that exist, and pairs
    {SYS_socketpair, Check::no_datagram},
    {SYS_sendmsg},
    {SYS_recvmsg},
    {SYS_sendto, Check::no_address},
    {SYS_recvfrom},
    {SYS_shutdown},
    {SYS_accept},
    {SYS_accept4},
    {SYS_getsockopt},
    {SYS_setsockopt},
    {SYS_getsockname},
    {SYS_getpeername},
    // Waiting and time
    {SYS_ppoll},
    {SYS_epoll_create1},
    {SYS_epoll_ctl},
    {SYS_epoll_pwait},
    {SYS_pselect6},
    {SYS_futex},
    {SYS_nanosleep},
    {SYS_clock_nanosleep},
    {SYS_clock_gettime},
    {SYS_clock_getres},
    {SYS_gettimeofday},
    {SYS_restart_syscall},
    {SYS_sched_yield},
    {SYS_timerfd_create},
    {SYS_timerfd_settime},
    {SYS_timerfd_gettime},
    {SYS_wait4},
    {SYS_waitid},
    // Memory
    {SYS_brk},
    {SYS_mmap, Check::no_code},
    {SYS_munmap},
    {SYS_mremap},
    {SYS_mprotect, Check::no_code},
    {SYS_madvise},
    {SYS_mincore},
    {SYS_membarrier},
    // This process and its threads
    {SYS_exit},
    {SYS_exit_group},
    {SYS_rt_sigaction},
    {SYS_rt_sigprocmask},
    {SYS_rt_sigreturn},
    {SYS_rt_sigtimedwait},
    {SYS_sigaltstack},
    {SYS_set_robust_list},
    {SYS_set_tid_address},
    {SYS_rseq},
    {SYS_gettid},
    {SYS_getpid},
    {SYS_getppid},
    {SYS_getuid},
    {SYS_geteuid},
    {SYS_getgid},
    {SYS_getegid},
    {SYS_sched_getaffinity},
    {SYS_getcpu},
    {SYS_getrandom},
    {SYS_getrusage},
    {SYS_uname},
    {SYS_sysinfo},
    {SYS_umask},
    {SYS_tgkill, Check::own_process},
    {SYS_prlimit64, Check::own_process},
    {SYS_prctl, Check::names},
    {SYS_clone, Check::thread},
    // Calls of Linux 5.3 and later. If they fail with ENOSYS, libraries use older ones, whose
    // arguments can be checked. All processors have the same numbers for them.
    {SYS_clone3, Check::no_call},
#if defined(__x86_64__)
    {SYS_stat},
    {SYS_lstat},
    {SYS_poll},
    {SYS_select},
    {SYS_epoll_wait},
    {SYS_dup2},
    {SYS_pipe},
    {SYS_time},
    {SYS_arch_prctl},
#endif
  };
  return calls;
}

constexpr unsigned kDeny = SECCOMP_RET_ERRNO | EPERM;
constexpr unsigned kNoSuchCall = SECCOMP_RET_ERRNO | ENOSYS;

/// Builds the program from back to front in pieces: each piece ends by itself.
class Filter {
 public:
  Filter(bool may_open, pid_t process) : process_(static_cast<uint32_t>(process)) {
    calls_ = allowed_calls();
    if (may_open) calls_.push_back({SYS_openat});
    std::sort(calls_.begin(), calls_.end(),
              [](const Call& a, const Call& b) { return a.number < b.number; });
  }

  std::vector<sock_filter> program() {
    constexpr unsigned kArchitecture = offsetof(seccomp_data, arch);
    std::vector<sock_filter> all = {load(kArchitecture)};
#ifdef MOLTFS_AUDIT_ARCH
    all.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MOLTFS_AUDIT_ARCH, 1, 0));
#endif
    all.push_back(BPF_STMT(BPF_RET | BPF_K, kDeny));
    all.push_back(load(offsetof(seccomp_data, nr)));
    const auto tree = search(0, calls_.size());
    all.insert(all.end(), tree.begin(), tree.end());
    return all;
  }

 private:
  static sock_filter load(unsigned offset) {
    return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset);
  }
  static sock_filter end(unsigned action) {
    return BPF_STMT(BPF_RET | BPF_K, action);
  }
  /// The lower half of an argument. The kernel ignores the upper one of an int.
  static unsigned argument(unsigned index) {
    return static_cast<unsigned>(offsetof(seccomp_data, args) + index * sizeof(uint64_t));
  }
  /// Denies the call if the argument is one of `values`.
  static std::vector<sock_filter> none_of(unsigned index, const std::vector<uint32_t>& values) {
    std::vector<sock_filter> code = {load(argument(index))};
    for (const uint32_t value : values) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
      code.push_back(end(kDeny));
    }
    code.push_back(end(SECCOMP_RET_ALLOW));
    return code;
  }

  /// A binary tree over the calls [first, end).
  std::vector<sock_filter> search(size_t first, size_t end_index) const {
    if (first == end_index) return {end(kDeny)};
    if (end_index - first == 1) {
      std::vector<sock_filter> leaf = {
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(calls_[first].number), 1, 0),
          end(calls_[first].check == Check::no_call ? kNoSuchCall : kDeny)};
      const auto decision = decide(calls_[first].check);
      leaf.insert(leaf.end(), decision.begin(), decision.end());
      return leaf;
    }
    const size_t middle = first + (end_index - first) / 2;
    const auto below = search(first, middle), above = search(middle, end_index);
    // A conditional jump reaches 255 instructions far, another one any distance.
    std::vector<sock_filter> tree = {
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, static_cast<uint32_t>(calls_[middle].number), 0, 1),
        BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(below.size()))};
    tree.insert(tree.end(), below.begin(), below.end());
    tree.insert(tree.end(), above.begin(), above.end());
    return tree;
  }

  std::vector<sock_filter> decide(Check check) const {
    constexpr unsigned kAllow = SECCOMP_RET_ALLOW;
    switch (check) {
      case Check::none:
        return {end(kAllow)};
      case Check::no_call:
        return {end(kNoSuchCall)};
      case Check::own_process:  // 0 means the calling process, for prlimit64
        return {load(argument(0)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, process_, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), end(kAllow), end(kDeny)};
      case Check::names:
        return {load(argument(0)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_NAME, 2, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_GET_NAME, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSetNameOfMemory, 0, 1),
                end(kAllow),
                end(kDeny)};
      case Check::thread:
        return {load(argument(0)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
                end(kAllow), end(kDeny)};
      case Check::no_code:
        return {load(argument(2)), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
                end(kDeny), end(kAllow)};
      case Check::no_terminal:
        return none_of(1, {TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP});
      case Check::no_owner:
        return none_of(1, {F_SETOWN, kSetOwnerEx, kSetSignal});
      case Check::no_datagram:
        return {load(argument(1)),
                BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSocketTypeMask),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_SEQPACKET, 0, 1),
                end(kAllow),
                end(kDeny)};
      case Check::no_address:  // a pointer: both halves
        return {load(argument(4)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
                load(argument(4) + sizeof(uint32_t)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
                end(kDeny),
                end(kAllow)};
    }
    return {end(kDeny)};
  }

  static constexpr uint32_t kSetNameOfMemory = 0x53564d41;      // PR_SET_VMA
  static constexpr uint32_t kSetSignal = 10, kSetOwnerEx = 15;  // F_SETSIG, F_SETOWN_EX
  static constexpr uint32_t kSocketTypeMask = 0xf;              // without SOCK_CLOEXEC and the like
  const uint32_t process_;
  std::vector<Call> calls_;
};

const int kConfineSignal = SIGRTMAX;

// ---- One thread

/// What confine_thread() needs. It runs in a signal handler: system calls only.
struct Plan {
  int ruleset = -1;
};
Plan plan;
std::atomic<unsigned> failures{0};
constexpr unsigned kLandlockFailed = 1, kCapabilitiesFailed = 2, kPrivilegesFailed = 4;

void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) failures |= kCapabilitiesFailed;
}

void confine_thread() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) failures |= kPrivilegesFailed;
  if (plan.ruleset >= 0 && syscall(SYS_landlock_restrict_self, plan.ruleset, 0U) != 0) {
    failures |= kLandlockFailed;
  }
  drop_capabilities();
}

// ---- All threads

constexpr useconds_t kPollUs = 50;

std::atomic<int> asked_thread{0};  ///< 0: it has answered

/// A thread is asked once, but never confined twice: the kernel limits the layers of Landlock.
void on_signal(int) {
  static thread_local bool is_confined = false;
  const int err = errno;
  if (!is_confined) confine_thread();
  is_confined = true;
  int self = static_cast<int>(syscall(SYS_gettid));
  asked_thread.compare_exchange_strong(self, 0);
  errno = err;
}

/// The kernel's own threads for io_uring are listed, too. They take no signals, and work with the
/// rights of who submits. Their names tell only once they run, but their flags from the start.
bool is_ours(int thread) {
  constexpr uint64_t kIoWorker = 0x10, kUserWorker = 0x4000;  // PF_... in linux/sched.h
  // Without the file the thread has ended: signalling it fails.
  const auto flags =
      leading_number(process_stat_field(fmt::format("self/task/{}", thread), kStatFlags));
  return (flags.value_or(0) & (kIoWorker | kUserWorker)) == 0;
}

std::set<int> threads() {
  std::set<int> found;
  DIR* const directory = opendir("/proc/self/task");
  if (directory == nullptr) return found;
  while (const dirent* entry = readdir(directory)) {
    const int thread = std::atoi(entry->d_name);
    if (thread > 0 && is_ours(thread)) found.insert(thread);
  }
  closedir(directory);
  return found;
}

/// Confines one other thread. False: it has not answered until `deadline`.
bool confine_other(int thread, std::chrono::steady_clock::time_point deadline) {
  asked_thread = thread;
  while (syscall(SYS_tgkill, getpid(), thread, kConfineSignal) != 0) {
    if (errno != EAGAIN) return true;  // it has ended
    if (std::chrono::steady_clock::now() >= deadline) return false;
    usleep(kPollUs);
  }
  while (asked_thread != 0) {
    if (syscall(SYS_tgkill, getpid(), thread, 0) != 0) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    usleep(kPollUs);
  }
  return true;
}

/// Confines the other threads, one after the other, until all that exist are: a thread that one of
/// them starts meanwhile may not be. False: some are not confined.
bool confine_others(std::chrono::milliseconds answer_within) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(kConfineSignal, &action, nullptr);
  const auto deadline = std::chrono::steady_clock::now() + answer_within;
  std::set<int> done = {static_cast<int>(syscall(SYS_gettid))};
  bool known = false, confined = true, found_new = true;
  while (found_new) {
    found_new = false;
    for (const int thread : threads()) {
      known = true;
      if (!done.insert(thread).second) continue;
      found_new = true;
      confined = confine_other(thread, deadline) && confined;
    }
  }
  // The default action for a signal that is still on its way would end the process.
  signal(kConfineSignal, SIG_IGN);
  return known && confined;
}

/// Returns 0 or an errno.
int install_filter(std::vector<sock_filter> program) {
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  // All threads; and before Linux 5.16 without slowing them down against speculation.
  constexpr unsigned kFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  const long done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kFlags, &filter);
  return done == 0 ? 0 : done > 0 ? ESRCH : errno;
}

}  // namespace

std::vector<std::string> enter_sandbox(std::chrono::milliseconds answer_within) {
  if (kSanitized) return {"a sandbox (the program is built with a sanitizer)"};
  std::vector<std::string> missing;
  const Descriptor ruleset = make_ruleset();
  if (!ruleset) missing.emplace_back("Landlock (this kernel has none, or it is off)");
  plan.ruleset = ruleset.get();
  failures = 0;
  // First the others: it takes a signal to each, and /proc.
  const bool all_confined = confine_others(answer_within);
  if (!all_confined) {
    missing.emplace_back(
        "fewer rights for all threads (there is no /proc, or one does not answer)");
  }
  confine_thread();
  if ((failures & kLandlockFailed) != 0) missing.emplace_back("Landlock (refused)");
  if ((failures & kCapabilitiesFailed) != 0) missing.emplace_back("fewer capabilities");
  if ((failures & kPrivilegesFailed) != 0) missing.emplace_back("no_new_privs");
  // The filter does not see which file is opened. Where Landlock does not, nothing is opened.
  const bool may_open = ruleset && all_confined && (failures & kLandlockFailed) == 0;
#ifdef MOLTFS_AUDIT_ARCH
  if (const int err = install_filter(Filter(may_open, getpid()).program())) {
    missing.push_back(fmt::format("a seccomp filter ({})", text_of_errno(err)));
  }
#else
  (void)may_open;
  missing.emplace_back("a seccomp filter (not written for this processor)");
#endif
  plan.ruleset = -1;
  return missing;
}

}  // namespace moltfs::fs::daemon
