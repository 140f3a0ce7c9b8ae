// SPDX-License-Identifier: MIT
// getxattr and an ioctl of the root of a mount, and pidfds.
#include "fs/daemon/client.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <utility>
#include <vector>

#include "alloc/base/descriptor.h"
#include "alloc/base/runtime.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/message.h"
#include "fs/daemon/mounts.h"
#include "fs/mount/control.h"
#include "fs/mount/control_call.h"
#include "fs/mount/process_identity.h"

namespace moltfs::fs::daemon {
namespace {

std::string xattr_of(std::string_view endpoint) {
  return fmt::format("{}{}", kControlPrefix, endpoint);
}

}  // namespace

Result<Client> Client::open(const std::string& path) {
  TRY(auto entry, find_moltfs(path));
  return Client(entry.mountpoint);
}

/// Errors: those of the daemon, with its sentence; result_too_large if the answer is longer than the
/// call allows.
Result<std::string> Client::call(bool is_set, std::string_view endpoint, std::string_view text,
                                 int socket) const {
  ControlCall call;
  call.is_set = is_set ? 1 : 0;
  call.socket = socket;
  if (endpoint.size() >= sizeof call.endpoint || text.size() > sizeof call.text) {
    return Errc::value_too_large;
  }
  std::copy(endpoint.begin(), endpoint.end(), call.endpoint);
  std::copy(text.begin(), text.end(), call.text);
  call.text_bytes = static_cast<uint32_t>(text.size());
  const int root = ::open(mountpoint_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return error_of(errno, {});
  const int done = ioctl(root, kControlCall, &call);
  const int err = errno;
  close(root);
  if (done < 0 && err == ENOTTY) {
    return Error(Errc::not_supported,
                 fmt::format("{}: the daemon is older than this program; unmount it and mount it "
                             "again",
                             mountpoint_));
  }
  std::string answer(call.text, std::min<size_t>(call.text_bytes, sizeof call.text));
  if (done < 0) return error_of(err, is_set || err != ERANGE ? answer : std::string());
  return answer;
}

Result<std::string> Client::get(std::string_view endpoint) const {
  std::vector<char> buffer(65536);
  const ssize_t size =
      getxattr(mountpoint_.c_str(), xattr_of(endpoint).c_str(), buffer.data(), buffer.size());
  if (size >= 0) return std::string(buffer.data(), static_cast<size_t>(size));
  const int err = errno;
  // Only the call brings the daemon's sentence, and some answers although the control is off.
  if (err == EPERM || err == ENODATA || err == EOPNOTSUPP) return call(false, endpoint, {}, -1);
  return error_of(err, {});
}

Result<Json> Client::get_json(std::string_view endpoint) const {
  TRY(const auto text, get(endpoint));
  auto json = Json::parse(text);
  if (json) return std::move(*json);
  return Error(Errc::io_error,
               fmt::format("{}: the daemon's answer about {} is not JSON", mountpoint_, endpoint));
}

Result<void> Client::set(std::string_view endpoint, std::string_view text) const {
  TRY(call(true, endpoint, text, -1));
  return ok();
}

Result<void> Client::start_replace(std::string_view text, const std::string& path) const {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  alloc::DeviceOpener::Options options;
  options.exclusive = false;  // the daemon claims it
  options.direct_io = false;
  TRY(const auto device, opener->open(path, options));
  int ends[2];
  if (const int err = make_socket_pair(ends)) return error_of(err, {});
  const Descriptor ours(ends[0]), theirs(ends[1]);
  if (const int err = send_message(ends[0], kTargetMessage, {alloc::descriptors_of(*device)[0]})) {
    return error_of(err, {});
  }
  // Where the Yama module lets only parents look into a process, it must allow the daemon's broker.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
  TRY(call(true, "replace", text, ends[1]));
  return ok();
}

Error Client::error_of(int err, const std::string& sentence) const {
  const Errc code = errc_from_errno(err);
  if (err == ENOTCONN || err == ECONNABORTED) {
    return Error(
        Errc::device_gone,
        fmt::format("the daemon of {} has died; unmount it and mount it again", mountpoint_));
  }
  // Who may not command learns of which mount; the sentence of a command has names of its own.
  const bool is_refused = err == EPERM || err == EOPNOTSUPP;
  if (!sentence.empty()) {
    return Error(code, is_refused ? fmt::format("{}: {}", mountpoint_, sentence) : sentence);
  }
  if (err == EPERM || err == EACCES) {
    return Error(code,
                 fmt::format("only root and the user who mounted {} may do that", mountpoint_));
  }
  return Error(code, fmt::format("{}: {}", mountpoint_, strerror(err)));
}

ProcessHandle::ProcessHandle(ProcessHandle&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pid_(other.pid_) {}

ProcessHandle& ProcessHandle::operator=(ProcessHandle&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(pid_, other.pid_);
  return *this;
}

ProcessHandle::~ProcessHandle() {
  if (fd_ >= 0) close(fd_);
}

std::optional<ProcessHandle> ProcessHandle::open(const std::string& identity) {
  std::istringstream words(identity);
  int pid = 0;
  std::string start;
  if (!(words >> pid >> start) || pid <= 0) return std::nullopt;
  ProcessHandle handle;
  handle.pid_ = pid;
  handle.fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (handle.fd_ < 0 || process_start_time(pid) != start) return std::nullopt;
  return handle;
}

bool ProcessHandle::wait(int milliseconds) const {
  pollfd poll_fd{fd_, POLLIN, 0};
  for (;;) {
    const int ready = poll(&poll_fd, 1, milliseconds);
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

}  // namespace moltfs::fs::daemon
