// SPDX-License-Identifier: MIT
// The daemon's life from opening the devices to closing them.
#include "fs/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <set>

#include "alloc/base/log.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/client.h"
#include "fs/daemon/daemonize.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/page_cache.h"
#include "fs/daemon/remount.h"
#include "fs/daemon/unmount.h"
#include "fs/daemon/utab.h"
#include "fs/daemon/watchdog.h"
#include "fs/fuse/server.h"

namespace moltfs::fs::daemon {
namespace {

constexpr unsigned kInitSeconds = 10;
constexpr int kEndAfterDetachMs = 3000;
constexpr auto kPatience = std::chrono::seconds(10);
constexpr auto kBetweenTries = std::chrono::milliseconds(20);

Result<void> check_mountpoint(const std::string& path) {
  struct stat s {};
  if (stat(path.c_str(), &s) != 0) {
    return Error(errc_from_errno(errno), fmt::format("mount point {}: {}", path, strerror(errno)));
  }
  if (!S_ISDIR(s.st_mode)) {
    return Error(Errc::not_a_directory, fmt::format("mount point {} is not a directory", path));
  }
  return ok();
}

/// True if one of `devices` is the source of a mount.
bool is_mounted(const std::vector<std::string>& devices) {
  const auto all = mounts();
  return std::any_of(all.begin(), all.end(), [&](const MountEntry& entry) {
    return std::find(devices.begin(), devices.end(), entry.source) != devices.end();
  });
}

/// The signals that stop the daemon, as a descriptor. They are blocked in every thread.
int stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return signalfd(-1, &set, SFD_CLOEXEC);
}

class Daemon {
 public:
  explicit Daemon(const MountRequest& request)
      : request_(request), opener_(alloc::make_system_devices(runtime_)) {}

  Result<void> start() {
    TRY(check_mountpoint(request_.mountpoint));
    TRY(mount_, open_volume());
    fuse::Server::Options options;
    options.mountpoint = request_.mountpoint;
    options.options = kernel_option_list(request_, geteuid() == 0);
    options.base_threads = request_.threads;
    options.owner = getuid();
    options.idle_polling = request_.idle_polling;
    TRY(server_, fuse::Server::mount(*mount_, options));
    server_->start();
    if (!server_->wait_until_initialized(kInitSeconds)) {
      log_warning("the kernel has not begun to talk after {} s", kInitSeconds);
    }
    if (const auto entry = find_moltfs(request_.mountpoint)) {
      device_number_ = entry.value().device_number;
    }
    if (request_.readahead_bytes != 0) set_readahead(device_number_, request_.readahead_bytes);
    TRY(const auto statistics, mount_->filesystem().statistics());
    server_->set_cache_limit(limit_cache(device_number_, statistics.total_bytes));
    show_atime();
    guardian_.start(device_number_, request_.mountpoint);
    return ok();
  }

  void announce() const {
    log_info("{} is mounted on {} ({} input/output)", request_.devices.front(), request_.mountpoint,
             opener_->engine().name());
  }

  /// Until the kernel ends the connection or a signal comes.
  void wait(int signals) {
    pollfd fds[2] = {{signals, POLLIN, 0}, {server_->ended_fd(), POLLIN, 0}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[1].revents == 0) detach();
  }

  Result<void> stop() {
    server_->shut_down();
    server_.reset();
    guardian_.dismiss();
    auto closed = mount_->close();
    mount_.reset();
    return closed;
  }

 private:
  /// The daemon of a mount that is gone has its devices until its last commit is done: waits for
  /// that, unless they are known to be somebody else's.
  Result<std::unique_ptr<Mount>> open_volume() {
    const auto patient_until = runtime_.now() + kPatience;
    for (;;) {
      auto opened = Mount::open(runtime_, *opener_, request_.devices, request_.mount);
      if (opened || opened.error() != Errc::device_in_use) return opened;
      if (runtime_.now() >= patient_until || is_mounted(request_.devices)) return opened;
      runtime_.sleep(kBetweenTries);
    }
  }

  /// The kernel's table of mounts says so too, from where "-o remount" takes it; libfuse has no
  /// words for these. Where not allowed it says relatime.
  void show_atime() const {
    const Policy& policy = request_.mount.policy;
    if (policy.atime != Policy::Atime::strict && policy.directory_atime) return;
    const unsigned long flags = remount_flags(request_, "") | MS_BIND;
    ::mount(nullptr, request_.mountpoint.c_str(), nullptr, flags, nullptr);
  }

  /// Unmounts wherever the filesystem is mounted (it may have been moved or bound elsewhere).
  void detach() {
    bool in_use = false;
    const auto all = moltfs_mounts();
    for (const MountEntry& entry : all) {
      if (entry.device_number != device_number_ || detach_mount(entry.mountpoint, {})) continue;
      in_use = true;
      write_back(entry.mountpoint);
      UnmountOptions lazily;
      lazily.lazy = true;
      const auto detached = detach_mount(entry.mountpoint, lazily);
      if (!detached) log_warning("{}", detached.error().message());
    }
    if (in_use) return;  // the kernel keeps the connection for the files that are open
    pollfd ended{server_->ended_fd(), POLLIN, 0};
    while (poll(&ended, 1, kEndAfterDetachMs) < 0 && errno == EINTR) {
    }
  }

  /// Has the kernel write back what is in its page cache. The receive threads serve meanwhile;
  /// this one serves nothing, so it may touch the mount.
  static void write_back(const std::string& mountpoint) {
    const int fd = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    if (syncfs(fd) != 0) log_warning("syncfs {}: {}", mountpoint, strerror(errno));
    close(fd);
  }

  const MountRequest& request_;
  RealRuntime runtime_;
  std::unique_ptr<alloc::DeviceOpener> opener_;
  std::unique_ptr<Mount> mount_;
  std::unique_ptr<fuse::Server> server_;
  std::string device_number_;
  Watchdog guardian_;
};

/// With its devices found: those given by label or uuid.
Result<MountRequest> resolved(MountRequest request) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  std::set<std::string> seen;
  for (std::string& device : request.devices) {
    TRY(device, find_device(*opener, device));
    if (!seen.insert(resolved_path(device)).second) {
      return Error(Errc::invalid_argument, fmt::format("{} is named twice", device));
    }
    if (access(device.c_str(), F_OK) != 0) {
      return Error(errc_from_errno(errno), fmt::format("{}: {}", device, strerror(errno)));
    }
  }
  return request;
}

int start_failed(const Error& error) {
  fmt::print(stderr, "moltfs mount: {}\n", error.message());
  return 2;
}

}  // namespace

int run(const MountRequest& wanted) {
  Daemonizer detacher;
  if (const auto exit_code = detacher.fork_unless(wanted.foreground)) return *exit_code;
  if (wanted.foreground) set_log_sink({});
  const int signals = stop_signals();
  become_io_server();
  const auto request = resolved(wanted);
  if (!request) {
    const bool is_absent = request.error() == Errc::not_found;
    return wanted.nofail && is_absent ? 0 : start_failed(request.error());
  }
  Daemon daemon(request.value());
  const auto started = daemon.start();
  if (!started) return start_failed(started.error());
  enter_in_utab(request.value());
  detacher.ready();
  daemon.announce();
  daemon.wait(signals);
  const auto stopped = daemon.stop();
  if (stopped) return 0;
  log_error("the last commit failed: {}", stopped.error().message());
  return 2;
}

}  // namespace moltfs::fs::daemon
