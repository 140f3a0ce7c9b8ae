// SPDX-License-Identifier: MIT
// umount(2), fusermount3, and waiting for the daemon.
#include "fs/daemon/unmount.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include "alloc/base/log.h"
#include "alloc/base/small_file.h"
#include "fs/daemon/client.h"
#include "fs/daemon/end_report.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/spawn.h"
#include "fs/daemon/utab.h"
#include "fs/daemon/write_back.h"

namespace moltfs::fs::daemon {
namespace {

constexpr int kSilentWaitMs = 5000;
/// A daemon notices the end of its connection at once, if it gets a CPU.
constexpr int kNoticeMs = 4000;
/// How long to wait for a process that cannot say whether its filesystem is still mounted elsewhere.
constexpr int kProcessWaitMs = 60'000;
constexpr std::string_view kFailedWrites = "failed_cached_writes";
/// How often and after which pause a forced unmounting of a mount in use is tried again.
constexpr int kForcedTries = 20;
constexpr useconds_t kForcedPauseUs = 50'000;
/// For a daemon that may hang.
constexpr int kAnswerMs = 5000;

Error unmount_error(int err, const std::string& mountpoint) {
  if (err == EBUSY) {
    return Error(Errc::busy, fmt::format("{} is in use: a file on it is open, it is the working "
                                         "directory of a program, or something is mounted in it",
                                         mountpoint));
  }
  return Error(errc_from_errno(err),
               fmt::format("cannot unmount {}: {}", mountpoint, strerror(err)));
}

/// The helper of libfuse, which may unmount what its user has mounted.
Result<void> fusermount(const std::string& mountpoint, bool lazy) {
  std::vector<std::string> words = {"fusermount3", "-u"};
  if (lazy) words.push_back("-z");
  words.insert(words.end(), {"--", mountpoint});
  TRY(const int status, run_program(std::move(words)));
  if (status == 0) return ok();
  return Error(Errc::busy, fmt::format("fusermount3 did not unmount {}", mountpoint));
}

/// True if the filesystem is still mounted somewhere, for instance by a bind mount.
bool is_mounted(const std::string& device_number) {
  const auto all = moltfs_mounts();
  return std::any_of(all.begin(), all.end(), [&](const alloc::MountinfoEntry& e) {
    return e.device_number == device_number;
  });
}

/// What can be known of a daemon before its filesystem is unmounted.
struct DaemonWatch {
  std::optional<EndWatch> end;           // nothing: it cannot be reached from here
  std::optional<ProcessHandle> process;  // nothing: it is in another PID namespace

  /// `identity`: the answer of the endpoint "pid".
  static DaemonWatch open(const std::string& identity) {
    std::istringstream words(identity);
    std::string number, start, end_report;
    words >> number >> start >> end_report;
    return {EndWatch::connect(end_report), ProcessHandle::open(identity)};
  }
};

/// False in a PID namespace (a container): /proc does not have all processes there.
bool sees_all_processes() {
  constexpr ino_t kFirstPidNamespace = 0xEFFFFFFC;  // PROC_PID_INIT_INO of the kernel
  struct stat status {};
  return stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == kFirstPidNamespace;
}

/// Whether some process sees the filesystem mounted; nothing if there are processes that this one
/// may not ask. A namespace without processes is not found.
std::optional<bool> is_mounted_for_any_process(const std::string& device_number) {
  std::error_code error;
  std::set<std::string> seen;
  bool asked_all = sees_all_processes();
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string process = entry.path().string();
    if (process.find_first_not_of("0123456789", 6) != std::string::npos) continue;
    std::error_code no_link;
    const auto name_space = std::filesystem::read_symlink(process + "/ns/mnt", no_link).string();
    if (!no_link && !seen.insert(name_space).second) continue;
    const auto mounts = read_small_file(process + "/mountinfo");
    if (mounts && mounts->find(" " + device_number + " ") != std::string::npos) return true;
    if (!mounts && geteuid() != 0) asked_all = false;  // for root it is one that has ended
  }
  return !error && asked_all ? std::optional(false) : std::nullopt;
}

/// Waits until the daemon has made its last commit and has ended. Returns the error of that commit.
/// `is_committed`: another one was made before the unmounting.
Result<void> wait_for_end(const alloc::MountinfoEntry& entry, DaemonWatch& watch,
                          bool is_committed) {
  const std::string& mountpoint = entry.mountpoint;
  using Event = EndWatch::Event;
  const auto held_elsewhere = [&] {
    log_warning(
        "{} is unmounted here and everything is committed, but its volume stays in use: it is "
        "still mounted in another mount namespace",
        mountpoint);
    return ok();
  };
  if (watch.end) {
    EndWatch& end = *watch.end;
    Event event = end.wait(kNoticeMs);
    if (event == Event::timeout && is_mounted_for_any_process(entry.device_number) == false) {
      event = end.wait(kProcessWaitMs);  // a busy machine
    }
    if (event == Event::timeout) return held_elsewhere();
    if (event != Event::finished) event = end.wait(kSilentWaitMs);
    if (event == Event::timeout) {
      log_warning("waiting for the last commit of {}", mountpoint);
      end.wait(-1);
    }
    if (watch.process) watch.process->wait(kSilentWaitMs);
    const auto& failure = end.failure();
    if (failure ? failure->empty() : is_committed) return ok();
    return Error(Errc::io_error,
                 fmt::format("{} is unmounted, but {}", mountpoint,
                             failure ? "the last commit failed: " + *failure
                                     : "its daemon has ended without telling whether the last "
                                       "commit succeeded"));
  }
  if (!watch.process || watch.process->wait(kSilentWaitMs)) return ok();
  log_warning("waiting for the last commit (process {})", watch.process->pid());
  return watch.process->wait(kProcessWaitMs) ? ok() : held_elsewhere();
}

Result<std::string> identity_of(const std::string& mountpoint) {
  TRY(const auto client, Client::open(mountpoint));
  return client.get("pid");
}

/// True if this user may not command, or the control is off.
bool is_refusal(const Error& error) {
  return error == Errc::not_permitted || error == Errc::access_denied ||
         error == Errc::not_supported || error == Errc::read_only;
}

/// The endpoint "usage"; nothing if this user may not ask.
Result<std::optional<Json>> usage_if_allowed(const Client& client) {
  auto usage = client.get_json("usage");
  if (usage) return std::optional(std::move(usage.value()));
  if (is_refusal(usage.error())) return std::optional<Json>();
  return usage.error();
}

/// Who may unmount may not always command. Then the kernel's errno is all that is known.
Result<std::string> commit(const std::string& mountpoint) {
  TRY(const auto client, Client::open(mountpoint));
  TRY(const auto before, usage_if_allowed(client));
  if (const auto written = write_back_cache(mountpoint); !written) {
    if (!before) return written.error();
    // The error may be one of an earlier write-back, which its writers were told of. The kernel has
    // an errno only; the daemon knows more.
    TRY(const auto after, client.get_json("usage"));
    const std::string reason = after.text("read_only_reason");
    if (!reason.empty()) return Error(written.error().code, reason);
    if (after.number(kFailedWrites) != before->number(kFailedWrites)) return written.error();
  }
  const auto done = client.set("sync", "1");
  if (done) return std::string();
  if (!is_refusal(done.error())) return done.error();
  TRY(commit_received(mountpoint));
  return std::string();
}

using Question = Result<std::string> (*)(const std::string& mountpoint);

/// Asks about a mount, if necessary in a process of its own.
class Asker {
 public:
  /// `may_hang`: the process is left behind after kAnswerMs, because a question to a daemon that hangs
  /// never returns.
  Asker(const alloc::MountinfoEntry& entry, bool may_hang)
      : mountpoint_(entry.mountpoint), may_hang_(may_hang), options_("," + entry.options + ",") {
    // Not even root may look into a mount that its user keeps to himself.
    is_private_ = geteuid() == 0 && id_of("user_id") != 0 && !has_word("allow_other");
  }

  /// Errors besides those of the question: busy (no answer in time).
  Result<std::string> ask(Question question) const {
    int ends[2];
    if ((!may_hang_ && !is_private_) || pipe2(ends, O_CLOEXEC) != 0) return question(mountpoint_);
    const pid_t child = fork();
    if (child == 0) answer_to(ends[1], question);
    close(ends[1]);
    auto answer = child < 0 ? question(mountpoint_) : answer_of(child, ends[0]);
    close(ends[0]);
    return answer;
  }

 private:
  bool has_word(std::string_view word) const {
    return options_.find(fmt::format(",{},", word)) != std::string::npos;
  }
  unsigned id_of(std::string_view name) const {
    const std::string start = fmt::format(",{}=", name);
    const size_t at = options_.find(start);
    return at == std::string::npos
               ? 0
               : static_cast<unsigned>(std::atol(options_.c_str() + at + start.size()));
  }

  [[noreturn]] void answer_to(int pipe, Question question) const {
    if (is_private_) {
      const gid_t group = id_of("group_id");
      const uid_t user = id_of("user_id");
      if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0) _exit(1);
    }
    const auto answer = question(mountpoint_);
    const int code = answer ? 0 : static_cast<int>(answer.error().code);
    const std::string text =
        fmt::format("{} {}", code, answer ? answer.value() : answer.error().message());
    _exit(write(pipe, text.data(), text.size()) < 0 ? 1 : 0);
  }

  Result<std::string> answer_of(pid_t child, int pipe) const {
    pollfd readable{pipe, POLLIN, 0};
    char text[4096];
    ssize_t size = -1;
    if (poll(&readable, 1, may_hang_ ? kAnswerMs : -1) == 1) size = read(pipe, text, sizeof text);
    if (size <= 0) {
      kill(child, SIGKILL);
      return Error(Errc::busy, fmt::format("{} does not answer", mountpoint_));
    }
    waitpid(child, nullptr, 0);
    const std::string answer(text, static_cast<size_t>(size));
    const int code = std::atoi(answer.c_str());
    std::string said = answer.substr(answer.find(' ') + 1);
    if (code == 0) return said;
    return Error(static_cast<Errc>(code), std::move(said));
  }

  const std::string mountpoint_;
  const bool may_hang_;
  const std::string options_;
  bool is_private_ = false;
};

/// The commit before the unmounting. Errors: with a sentence that says whether it is unmounted.
Result<void> commit_first(const Asker& asker, const std::string& mountpoint, bool lazy) {
  const auto done = asker.ask(commit);
  if (done) return ok();
  return Error(done.error().code,
               fmt::format("{}: what was written cannot be committed: {}; {}", mountpoint,
                           done.error().message(),
                           lazy ? "it is detached all the same"
                                : "it stays mounted (umount -f unmounts it, and loses what is not "
                                  "committed)"));
}

}  // namespace

Result<void> unmount_without_waiting(const std::string& mountpoint, const UnmountOptions& options) {
  const int flags = (options.lazy ? MNT_DETACH : 0) | (options.force ? MNT_FORCE : 0);
  // Requests that were ended by force use the mount until their programs have noticed it.
  for (int tries = options.force ? kForcedTries : 1;; --tries) {
    if (umount2(mountpoint.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return ok();
    if (errno != EBUSY || tries <= 1) break;
    usleep(kForcedPauseUs);
  }
  if (errno == EPERM && geteuid() != 0) return fusermount(mountpoint, options.lazy);
  return unmount_error(errno, mountpoint);
}

Result<void> unmount(const std::string& path, const UnmountOptions& options) {
  TRY(const auto entry, find_moltfs(path));
  const std::string& mountpoint = entry.mountpoint;
  const Asker asker(entry, options.lazy || options.force);
  const auto identity = asker.ask(identity_of);
  DaemonWatch watch;
  if (identity) watch = DaemonWatch::open(identity.value());
  Result<void> committed = ok();
  const bool is_dead = !identity && identity.error() == Errc::device_gone;
  if (!options.force && !is_dead) committed = commit_first(asker, mountpoint, options.lazy);
  if (!committed && !options.lazy) return committed;
  TRY(unmount_without_waiting(mountpoint, options));
  remove_from_utab(mountpoint);
  if (options.lazy || is_mounted(entry.device_number)) return committed;
  return wait_for_end(entry, watch, !options.force);
}

UnmountedEverywhere unmount_everywhere(const std::string& device_number) {
  UnmountedEverywhere result;
  const auto all = moltfs_mounts();
  for (const alloc::MountinfoEntry& entry : all) {
    if (entry.device_number != device_number) continue;
    if (unmount_without_waiting(entry.mountpoint, {})) {
      remove_from_utab(entry.mountpoint);
      continue;
    }
    result.in_use = true;
    const auto written = write_back_cache(entry.mountpoint);
    if (!written) result.warnings.push_back("syncfs " + written.error().message());
    UnmountOptions lazily;
    lazily.lazy = true;
    const auto detached = unmount_without_waiting(entry.mountpoint, lazily);
    if (!detached) result.warnings.push_back(detached.error().message());
    remove_from_utab(entry.mountpoint);
  }
  return result;
}

}  // namespace moltfs::fs::daemon
