// SPDX-License-Identifier: MIT
// Starting, waiting and stopping.
#include "fs/daemon/daemon.h"

#include <errno.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <set>

#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "alloc/base/standard_streams.h"
#include "alloc/base/utf8.h"
#include "alloc/device/holder.h"
#include "alloc/device/identity.h"
#include "alloc/device/memory_limit.h"
#include "alloc/device/mountinfo.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/broker_process.h"
#include "fs/daemon/client.h"
#include "fs/daemon/daemonize.h"
#include "fs/daemon/end_report.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/inherited.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/other_moltfs.h"
#include "fs/daemon/page_cache.h"
#include "fs/daemon/remount.h"
#include "fs/daemon/sandbox.h"
#include "fs/daemon/second_mount.h"
#include "fs/daemon/unmount.h"
#include "fs/daemon/utab.h"
#include "fs/daemon/watchdog.h"
#include "fs/daemon/write_back.h"
#include "fs/fuse/server.h"
#include "fs/mount/process_identity.h"

namespace moltfs::fs::daemon {
namespace {

constexpr int kFailed = 2;  // exit code
constexpr unsigned kInitSeconds = 10;
constexpr int kEndAfterUnmountMs = 3000;
constexpr auto kWaitForDevices = std::chrono::seconds(10);
constexpr auto kBetweenTries = std::chrono::milliseconds(20);
constexpr auto kRetryCommit = std::chrono::seconds(5);
constexpr auto kBetweenCommits = std::chrono::milliseconds(200);

/// True for directories in which the daemon looks files up before it serves requests: it would wait for
/// itself.
bool daemon_needs(const std::string& path, const struct stat& status) {
  struct statfs filesystem {};
  if (statfs(path.c_str(), &filesystem) == 0 &&
      (filesystem.f_type == PROC_SUPER_MAGIC || filesystem.f_type == SYSFS_MAGIC)) {
    return true;
  }
  const auto is = [&](const char* name) {
    struct stat named {};
    return stat(name, &named) == 0 && named.st_dev == status.st_dev &&
           named.st_ino == status.st_ino;
  };
  return is("/proc") || is("/sys") || is("/dev");
}

Result<void> check_mountpoint(const std::string& path) {
  struct stat s {};
  if (stat(path.c_str(), &s) != 0) {
    return Error(errc_from_errno(errno), fmt::format("mount point {}: {}", path, strerror(errno)));
  }
  if (!S_ISDIR(s.st_mode)) {
    return Error(Errc::not_a_directory, fmt::format("mount point {} is not a directory", path));
  }
  if (daemon_needs(path, s)) {
    return Error(Errc::invalid_argument,
                 fmt::format("mount point {}: the daemon itself needs what it would hide", path));
  }
  return ok();
}

/// fusermount3, which unmounts for ordinary users, looks for the mount in /etc/mtab. Without that
/// file they could mount and then not unmount.
Result<void> check_mtab() {
  if (geteuid() == 0 || access("/etc/mtab", R_OK) == 0) return ok();
  const int err = errno;
  return Error(
      errc_from_errno(err),
      fmt::format("/etc/mtab: {}; without it an ordinary user cannot unmount. As root, run: "
                  "ln -s ../proc/self/mounts /etc/mtab",
                  strerror(err)));
}

/// True if one of `devices` is mounted, by whatever name, where this process sees it.
bool is_mounted(const std::vector<std::string>& devices) {
  const auto all = alloc::read_mountinfo();
  return std::any_of(devices.begin(), devices.end(), [&](const std::string& device) {
    const auto what = alloc::identify(device);
    return what && !alloc::mount_point_in(all, what.value()).empty();
  });
}

/// Whether this process has CAP_SYS_ADMIN.
bool is_administrator() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  const bool known = syscall(SYS_capget, &header, data) == 0;
  return known && (data[0].effective & (1U << CAP_SYS_ADMIN)) != 0;
}

class Daemon {
 public:
  explicit Daemon(const MountRequest& request)
      : request_(request), devices_(alloc::make_system_devices(runtime_), broker_) {}

  Result<void> start() {
    TRY(check_mountpoint(request_.mountpoint));
    TRY(check_mtab());
    TRY(mount_, open_volume());
    broker_.start(mount_->volume().superblock().volume);
    fuse::Server::Options options;
    options.mountpoint = request_.mountpoint;
    options.options = kernel_option_list(request_, geteuid() == 0);
    options.base_threads = request_.threads;
    options.control.level = request_.control;
    options.control.owner = getuid();
    options.control.owner_may_command = !is_administrator();
    options.control.broker = &broker_;
    options.idle_polling = request_.idle_polling;
    TRY(server_, fuse::Server::mount(*mount_, options));
    is_mounted_ = true;
    server_->start();
    if (!server_->wait_until_initialized(kInitSeconds)) {
      log_warning("the kernel has not answered after {} s", kInitSeconds);
    }
    if (const auto entry = find_moltfs(request_.mountpoint)) {
      device_number_ = entry.value().device_number;
      alloc::set_served_filesystem(device_number_, devices_of_moltfs);
      broker_.mounted(device_number_, request_.mountpoint);
    }
    if (request_.readahead_bytes != 0) set_readahead(device_number_, request_.readahead_bytes);
    TRY(const auto statistics, mount_->filesystem().statistics());
    server_->set_cache_limit(limit_cache(device_number_, statistics.total_bytes));
    show_atime();
    watchdog_.start(device_number_, request_.mountpoint);
    return ok();
  }

  /// Enters the sandbox. The daemon opens nothing itself from then on.
  void confine() {
    if (!request_.sandbox) return;
    if (!broker_.is_running()) return log_warning("no sandbox: it needs the broker");
    devices_.engine().finish_setup();
    devices_.confine();
    alloc::keep_memory_files();
    logs_by_broker_ = !request_.foreground;
    if (logs_by_broker_) {
      set_log_sink([this](LogLevel level, const std::string& text) { broker_.log(level, text); });
    }
    const auto missing = enter_sandbox();
    if (!missing.empty()) log_info("the sandbox lacks: {}", fmt::join(missing, ", "));
  }

  void announce() {
    log_info("{} is mounted on {} ({} input/output)", request_.devices.front(), request_.mountpoint,
             devices_.engine().name());
  }

  /// Returns when the kernel has ended the connection. On a stop signal, commits and unmounts
  /// first. Returns the error of that commit, if it failed.
  Result<void> wait(int signals) {
    pollfd fds[2] = {{signals, POLLIN, 0}, {server_->ended_fd(), POLLIN, 0}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[1].revents != 0) return ok();
    auto committed = commit_before_stop();
    unmount_everywhere();
    return committed;
  }

  Result<void> stop() {
    server_->shut_down();
    server_.reset();
    watchdog_.dismiss();
    auto closed = mount_->close();
    mount_.reset();
    if (!broker_.forget_mount()) remove_from_utab_if_unmounted(request_.mountpoint);
    return closed;
  }

  /// For a daemon that could not start: nothing stays mounted.
  ~Daemon() {
    if (logs_by_broker_) set_log_sink({});
    if (!is_mounted_ || !server_) return;
    UnmountOptions lazily;
    lazily.lazy = true;
    (void)unmount_without_waiting(request_.mountpoint, lazily);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

 private:
  /// The daemon of an earlier mount keeps the devices until its last commit is done. Waits for
  /// that, unless a mount is still there that uses them.
  Result<std::unique_ptr<Mount>> open_volume() {
    const auto deadline = runtime_.now() + kWaitForDevices;
    for (;;) {
      auto opened = Mount::open(runtime_, devices_, request_.devices, request_.mount);
      if (opened || opened.error() != Errc::device_in_use) return opened;
      if (runtime_.now() >= deadline || is_mounted(request_.devices)) return opened;
      runtime_.sleep(kBetweenTries);
    }
  }

  /// Shows the rule for access times in /proc/mounts, from where "mount -o remount" takes it.
  /// libfuse cannot pass it on. Without the right to do so, /proc/mounts says relatime.
  void show_atime() const {
    const Policy& policy = request_.mount.policy;
    if (policy.atime != Policy::Atime::strict && policy.directory_atime) return;
    const unsigned long flags = remount_flags(request_, "") | MS_BIND;
    ::mount(nullptr, request_.mountpoint.c_str(), nullptr, flags, nullptr);
  }

  /// All that is written, before the mount goes. What fails for want of room on the host of an image
  /// is tried again for a while: once unmounted, the data is lost.
  Result<void> commit_before_stop() {
    const auto deadline = runtime_.now() + kRetryCommit;
    for (;;) {
      auto written = broker_.write_back();
      if (!written && written.error() == Errc::not_supported) {
        written = write_back_cache(request_.mountpoint);
      }
      if (!written) log_warning("syncfs {}", written.error().message());
      auto committed = mount_->filesystem().commit();
      if (committed || committed.error() != Errc::no_space || runtime_.now() >= deadline) {
        return committed;
      }
      runtime_.sleep(kBetweenCommits);
    }
  }

  /// Unmounts all places where the volume is mounted. The receive threads serve meanwhile; this
  /// thread serves nothing, so it may use the mount.
  void unmount_everywhere() {
    auto asked = broker_.unmount();
    const UnmountedEverywhere result =
        asked ? std::move(asked.value()) : daemon::unmount_everywhere(device_number_);
    for (const std::string& warning : result.warnings) log_warning("{}", warning);
    if (result.in_use) return;  // the kernel keeps the connection for the open files
    pollfd ended{server_->ended_fd(), POLLIN, 0};
    while (poll(&ended, 1, kEndAfterUnmountMs) < 0 && errno == EINTR) {
    }
  }

  const MountRequest& request_;
  RealRuntime runtime_;
  BrokerProcess broker_;
  ConfinedDevices devices_;
  std::unique_ptr<Mount> mount_;
  std::unique_ptr<fuse::Server> server_;
  bool is_mounted_ = false, logs_by_broker_ = false;
  std::string device_number_;
  Watchdog watchdog_;
};

/// `request` with paths for the devices that were given by label or uuid.
Result<MountRequest> resolved(MountRequest request) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  std::set<std::string> seen;
  for (std::string& device : request.devices) {
    TRY(device, find_device(*opener, device));
    if (!seen.insert(resolved_path(device)).second) {
      return Error(Errc::invalid_argument, fmt::format("{} is given twice", device));
    }
    if (access(device.c_str(), F_OK) != 0) {
      return Error(errc_from_errno(errno), fmt::format("{}: {}", device, strerror(errno)));
    }
  }
  return request;
}

/// Chooses the size of the cache of metadata, if the user has not, and has it follow the limit of
/// memory when that changes.
void limit_memory(MountRequest& request) {
  const uint64_t limit = alloc::memory_limit();
  uint64_t& cache = request.mount.cache_bytes;
  if (!request.cache_is_given) {
    cache = alloc::default_cache_bytes(limit);
  } else if (cache > limit / 2) {
    log_warning(
        "cache={} is more than half of the {} of memory that this process may use; it may be "
        "killed for that",
        human_size(cache), human_size(limit));
  }
  request.mount.wanted_cache_bytes = [limit, cache, given = request.cache_is_given] {
    const uint64_t now = alloc::memory_limit();
    if (now == limit) return cache;
    return given ? std::min(cache, now / 2) : alloc::default_cache_bytes(now);
  };
}

int start_failed(const Error& error) {
  write_to_standard_error(fmt::format("moltfs mount: {}\n", printable(error.message())));
  return kFailed;
}

/// Warnings and errors until the daemon is ready. It must not wait for the reader of its output.
void offer_warnings(LogLevel level, const std::string& text) {
  if (level > LogLevel::warning) return;
  offer_to_standard_error(fmt::format("moltfs: {}\n", printable(text)));
}

/// Starts, serves and stops. Returns the exit code.
int serve(const MountRequest& request, int signals, EndReport& end_report, Daemonizer& daemonizer) {
  Daemon daemon(request);
  const auto started = daemon.start();
  if (!started) {
    // Another process may have mounted it in the meantime.
    const bool is_in_use = started.error() == Errc::device_in_use;
    const auto again = is_in_use ? mount_again(request) : Result<bool>(false);
    return again && again.value() ? 0 : start_failed(started.error());
  }
  enter_in_utab(request);
  daemonizer.ready([&] { daemon.confine(); });
  daemon.announce();
  const auto committed = daemon.wait(signals);
  end_report.connection_ended();
  if (!committed) log_error("the commit before the end failed: {}", committed.error().message());
  const auto stopped = daemon.stop();
  end_report.finished(stopped);
  if (!stopped) log_error("the last commit failed: {}", stopped.error().message());
  return stopped ? 0 : kFailed;
}

}  // namespace

int run(const MountRequest& wanted) {
  leave_parent();
  Daemonizer daemonizer;
  if (const auto exit_code = daemonizer.fork_unless(wanted.foreground)) return *exit_code;
  set_log_sink(wanted.foreground ? std::function<void(LogLevel, const std::string&)>()
                                 : offer_warnings);
  const auto signals = stop_signals(wanted.foreground);
  if (!signals) return start_failed(signals.error());
  EndReport end_report;
  set_end_report_name(end_report.name());
  become_io_server();
  auto request = resolved(wanted);
  if (!request) {
    const bool is_absent = request.error() == Errc::not_found;
    return wanted.nofail && is_absent ? 0 : start_failed(request.error());
  }
  const auto again = mount_again(request.value());
  if (!again) return start_failed(again.error());
  if (again.value()) return 0;
  limit_memory(request.value());
  return serve(request.value(), signals.value(), end_report, daemonizer);
}

}  // namespace moltfs::fs::daemon
