// SPDX-License-Identifier: MIT
// The loop of the broker, and each job.
#include "fs/daemon/broker_server.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "alloc/base/log.h"
#include "alloc/device/blank.h"
#include "alloc/device/open_path.h"
#include "alloc/device/signature.h"
#include "alloc/device/system_devices.h"
#include "alloc/disk/superblock.h"
#include "fs/daemon/broker_protocol.h"
#include "fs/daemon/caller_rights.h"
#include "fs/daemon/message.h"
#include "fs/daemon/other_moltfs.h"
#include "fs/daemon/unmount.h"
#include "fs/daemon/utab.h"
#include "fs/daemon/write_back.h"
#include "fs/mount/control_call.h"

namespace moltfs::fs::daemon {
namespace {

constexpr const char* kName = "moltfs-broker";
constexpr size_t kAnswerTextBytesMax = kMessageBytesMax - sizeof(BrokerAnswer);

Error system_error(std::string_view what, int err) {
  return Error(errc_from_errno(err), fmt::format("{}: {}", what, text_of_errno(err)));
}

/// What a job found.
struct JobResult {
  std::string text;
  std::vector<int> descriptors;
  std::shared_ptr<alloc::Device> device;  ///< keeps them open
};

// ---- Being the caller

/// True if both processes are in the same mount namespace and have the same root directory.
bool sees_the_same_files(int pid) {
  const std::string other = fmt::format("/proc/{}/", pid);
  for (const char* name : {"ns/mnt", "root"}) {
    struct stat theirs {
    }, ours{};
    if (stat((other + name).c_str(), &theirs) != 0) return false;
    if (stat((std::string("/proc/self/") + name).c_str(), &ours) != 0) return false;
    if (theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino) return false;
  }
  return true;
}

/// From now on paths mean to this process what they mean to process `pid`.
Result<void> enter_files_of(int pid) {
  if (sees_the_same_files(pid)) return ok();
  const std::string process = fmt::format("/proc/{}/", pid);
  const int root = open((process + "root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int space = open((process + "ns/mnt").c_str(), O_RDONLY | O_CLOEXEC);
  if (root < 0 || space < 0 || setns(space, CLONE_NEWNS) != 0 || fchdir(root) != 0 ||
      chroot(".") != 0 || chdir("/") != 0) {
    return system_error("the files that the caller sees cannot be opened", errno);
  }
  return ok();
}

/// From now on this process has the rights of the caller.
Result<void> take_rights(const CallerRights& rights) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) return system_error("capget", errno);
  const uint64_t own = data[0].permitted | uint64_t{data[1].permitted} << 32;
  if ((own & (uint64_t{1} << CAP_SETUID)) == 0) {
    // The broker of an ordinary user is that user.
    if (rights.uid == geteuid()) return ok();
    return Error(Errc::not_permitted, "the daemon cannot act with the rights of the caller");
  }
  if (setgroups(rights.groups.size(), rights.groups.data()) != 0 ||
      setresgid(rights.gid, rights.gid, rights.gid) != 0 || prctl(PR_SET_KEEPCAPS, 1) != 0 ||
      setresuid(rights.uid, rights.uid, rights.uid) != 0) {
    return system_error("taking the rights of the caller", errno);
  }
  const uint64_t all = rights.above_our_user_namespace ? own : own & rights.capabilities;
  for (int i = 0; i < 2; ++i) {
    const auto half = static_cast<uint32_t>(all >> (32 * i));
    data[i] = {half, half, 0};
  }
  if (syscall(SYS_capset, &header, data) != 0) return system_error("capset", errno);
  return ok();
}

// ---- Jobs that only read /proc

Result<JobResult> check_admin(const CallingProcess& caller) {
  TRY(const auto rights, rights_of(caller));
  if (rights.is_admin()) return JobResult{};
  return Error(Errc::not_permitted,
               "only root (CAP_SYS_ADMIN) and the ordinary user who mounted may do that");
}

Result<JobResult> groups(const CallingProcess& caller) {
  TRY(const auto rights, rights_of(caller));
  JobResult found;
  for (const gid_t group : rights.groups) {
    const std::string word = fmt::format("{} ", group);
    // A part of a number would be another group.
    if (found.text.size() + word.size() > kAnswerTextBytesMax) break;
    found.text += word;
  }
  return found;
}

// ---- Jobs that open files, change the rights of their process, or take long

class Jobs {
 public:
  /// `mount`: the text of BrokerJob::mounted.
  Jobs(const Uuid& volume, const std::string& mount)
      : volume_(volume),
        device_number_(mount.substr(0, mount.find('\n'))),
        mountpoint_(mount.substr(std::min(mount.size(), device_number_.size() + 1))) {}

  Result<JobResult> run(const BrokerRequest& request, const std::string& text) {
    const CallingProcess caller{request.uid, request.pid};
    switch (request.job) {
      case BrokerJob::open_blank:
        return open_blank(caller, text);
      case BrokerJob::take_target:
        return take_target(caller, request.number, text);
      case BrokerJob::open_own:
        return open_own(text, request.read_only != 0, request.exclusive != 0);
      case BrokerJob::candidates:
        return candidates();
      case BrokerJob::unmount:
        return unmount();
      case BrokerJob::write_back: {
        TRY(write_back_cache(mountpoint_));
        return JobResult{};
      }
      case BrokerJob::forget_mount:
        remove_from_utab_if_unmounted(mountpoint_);
        return JobResult{};
      case BrokerJob::check_admin:
      case BrokerJob::groups:
      case BrokerJob::mounted:
      case BrokerJob::log:
        break;
    }
    return Error(Errc::invalid_argument);
  }

 private:
  Result<JobResult> open_blank(const CallingProcess& caller, const std::string& path) {
    if (!path.starts_with('/')) {
      return Error(Errc::bad_command, fmt::format("{}: the path must be absolute", path));
    }
    TRY(const auto rights, rights_of(caller));
    TRY(enter_files_of(caller.pid));
    TRY(take_rights(rights));
    TRY(auto device, opener_->open(path, {}));
    TRY(check_blank(*device, path));
    return answer(std::move(device));
  }

  Result<void> check_blank(alloc::Device& device, const std::string& path) {
    const int descriptor = alloc::descriptors_of(device).front();
    const auto data = alloc::find_data(descriptor, device.size_bytes());
    if (!data) {
      return Error(data.error().code, fmt::format("{}: {}", path, data.error().message()));
    }
    if (!data.value()) return ok();
    const auto super = alloc::read_superblock(opener_->engine(), device);
    if (super && super.value().role == alloc::DeviceRole::replaced) {
      TRY(const auto foreign, alloc::foreign_signature(descriptor, path));
      if (!foreign) return ok();
    }
    return Error(Errc::foreign_signature,
                 fmt::format("{}: is not blank: there is data at offset {}. A target that is named "
                             "by an attribute or a control file must be blank; the command moltfs "
                             "replace start takes others, too",
                             path, *data.value()));
  }

  Result<JobResult> take_target(const CallingProcess& caller, int number, const std::string& path) {
    const auto cannot = [&](std::string_view why) {
      return Error(Errc::access_denied,
                   fmt::format("{}: the target that process {} has opened cannot be taken over: {}",
                               path, caller.pid, why));
    };
    const auto process = static_cast<int>(syscall(SYS_pidfd_open, caller.pid, 0));
    if (process < 0) return cannot(text_of_errno(errno));
    const auto socket = static_cast<int>(syscall(SYS_pidfd_getfd, process, number, 0));
    if (socket < 0) return cannot(text_of_errno(errno));
    int type = 0;
    socklen_t size = sizeof type;
    Message message;
    if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET ||
        receive_message(socket, MSG_PEEK | MSG_DONTWAIT, message) != 0 ||
        message.bytes != kTargetMessage || message.descriptors.size() != 1) {
      return cannot("it offers none");
    }
    const int target = message.descriptors.front();
    const int flags = fcntl(target, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || (flags & O_PATH) != 0) {
      return cannot("it is not open for reading and writing");
    }
    // Opened again, for exclusive use and with a file position and flags of its own.
    const std::string name = fmt::format("/proc/self/fd/{}", target);
    auto device = opener_->open(name, {});
    if (device) return answer(std::move(device.value()));
    std::string sentence = device.error().message();
    if (sentence.starts_with(name)) sentence.replace(0, name.size(), path);
    return Error(device.error().code, sentence);
  }

  Result<JobResult> open_own(const std::string& path, bool read_only, bool exclusive) {
    alloc::DeviceOpener::Options options;
    options.read_only = read_only;
    options.exclusive = exclusive;
    TRY(auto device, opener_->open(path, options));
    const auto super = alloc::read_superblock(opener_->engine(), *device);
    if (super && super.value().volume == volume_) return answer(std::move(device));
    return Error(Errc::not_found, fmt::format("{}: is not a device of this volume", path));
  }

  Result<JobResult> candidates() {
    JobResult all;
    for (const std::string& path : opener_->candidates()) {
      if (all.text.size() + path.size() + 1 > kAnswerTextBytesMax) break;
      all.text.append(path).push_back('\0');
    }
    return all;
  }

  Result<JobResult> unmount() {
    const UnmountedEverywhere result = unmount_everywhere(device_number_);
    JobResult lines;
    if (result.in_use) lines.text = std::string(kInUse) + "\n";
    for (const std::string& warning : result.warnings) lines.text += warning + "\n";
    return lines;
  }

  static JobResult answer(std::shared_ptr<alloc::Device> device) {
    auto descriptors = alloc::descriptors_of(*device);
    return JobResult{{}, std::move(descriptors), std::move(device)};
  }

  const Uuid volume_;
  const std::string device_number_, mountpoint_;
  RealRuntime runtime_;
  std::unique_ptr<alloc::DeviceOpener> opener_ = alloc::make_system_devices(runtime_);
};

/// `flags`: MSG_DONTWAIT, so that a socket without room cannot stop the broker.
void reply(const Result<JobResult>& found, int to, int flags = 0) {
  BrokerAnswer header;
  if (!found) header.code = static_cast<uint32_t>(found.error().code);
  const std::string bytes = packed(header, found ? found.value().text : found.error().message());
  const std::string_view sent = std::string_view(bytes).substr(0, kMessageBytesMax);
  send_message(to, sent, found ? found.value().descriptors : std::vector<int>(), flags);
}

/// In a process of its own.
void carry_out(Jobs& jobs, const BrokerRequest& request, const std::string& text, int to) {
  signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  reply(jobs.run(request, text), to);
}

}  // namespace

void serve_requests(int socket, const Uuid& volume) {
  signal(SIGCHLD, SIG_IGN);  // children leave no zombies
  tell_empty_messages_from_the_end(socket);
  std::string mount;
  for (;;) {
    Message message;
    const int err = receive_message(socket, 0, message);
    if (err == ENOMEM || err == ENOBUFS) {  // the message is still there
      usleep(10'000);
      continue;
    }
    if (err == EMSGSIZE) continue;
    if (err != 0) return;
    const int to = message.descriptors.size() == 1 ? message.descriptors.front() : -1;
    BrokerRequest request;
    if (message.bytes.size() < sizeof request) {
      if (to >= 0) reply(Error(Errc::invalid_argument), to, MSG_DONTWAIT);
    } else {
      std::memcpy(&request, message.bytes.data(), sizeof request);
      const std::string text = message.bytes.substr(sizeof request);
      const CallingProcess caller{request.uid, request.pid};
      if (request.job == BrokerJob::mounted) {
        if (mount.empty()) {
          mount = text;
          // A target on the daemon's own mount must not be looked up: the caller holds its root.
          alloc::set_served_filesystem(mount.substr(0, mount.find('\n')), devices_of_moltfs);
        }
      } else if (request.job == BrokerJob::log) {
        log_line(std::clamp(static_cast<LogLevel>(request.number), LogLevel::error, LogLevel::info),
                 text);
      } else if (to < 0) {
        // Nobody waits for an answer.
      } else if (request.job == BrokerJob::check_admin) {
        // Each look at a status asks for this and the groups: a process for each would cost more than
        // the status.
        reply(check_admin(caller), to, MSG_DONTWAIT);
      } else if (request.job == BrokerJob::groups) {
        reply(groups(caller), to, MSG_DONTWAIT);
      } else if (const pid_t child = fork(); child == 0) {
        close(socket);
        Jobs jobs(volume, mount);
        carry_out(jobs, request, text, to);
        _exit(0);
      } else if (child < 0) {
        reply(system_error("a process for it cannot be started", errno), to, MSG_DONTWAIT);
      }
    }
    for (const int descriptor : message.descriptors) close(descriptor);
  }
}

int run_broker(int argc, char** argv) {
  const auto volume = argc == 2 ? Uuid::parse(argv[1]) : std::nullopt;
  if (!volume) return 1;
  prctl(PR_SET_NAME, kName);
  // Signals that stop daemons and sessions do not stop the broker: the daemon may still need it.
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  setsid();
  if (chdir("/") != 0) return 1;
  const int socket = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int null = open("/dev/null", O_RDWR);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (null >= 0) dup2(null, fd);
  }
  log_to_syslog();
  if (socket < 0) return 1;
  if (socket > STDERR_FILENO + 1) syscall(SYS_close_range, STDERR_FILENO + 1, socket - 1, 0);
  syscall(SYS_close_range, socket + 1, ~0U, 0);
  serve_requests(socket, *volume);
  return 0;
}

}  // namespace moltfs::fs::daemon
