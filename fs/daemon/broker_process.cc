// SPDX-License-Identifier: MIT
// Starting the broker, and asking it.
#include "fs/daemon/broker_process.h"

#include <errno.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <sstream>
#include <utility>

#include "alloc/base/blocking.h"
#include "alloc/base/log.h"
#include "fs/daemon/broker_protocol.h"
#include "fs/daemon/message.h"

namespace moltfs::fs::daemon {
namespace {

struct Answer {
  std::string text;
  std::vector<int> descriptors;
};

Error no_broker(std::string_view why) {
  return Error(Errc::not_supported,
               fmt::format("the process moltfs-broker, which is needed for this, {}", why));
}

/// Sends a request with a socket for its answer, and waits for that.
Result<Answer> ask(int broker, const BrokerRequest& request, std::string_view text) {
  if (broker < 0) return no_broker("could not be started");
  announce_blocking();
  int ends[2];
  if (const int err = make_socket_pair(ends)) return no_broker(text_of_errno(err));
  const int sent = send_message(broker, packed(request, text), {ends[1]});
  close(ends[1]);
  Message message;
  const int received = sent != 0 ? sent : receive_message(ends[0], 0, message);
  close(ends[0]);
  BrokerAnswer header;
  if (received != 0 || message.bytes.size() < sizeof header) return no_broker("has ended");
  std::memcpy(&header, message.bytes.data(), sizeof header);
  Answer answer{message.bytes.substr(sizeof header), std::move(message.descriptors)};
  if (header.code == 0) return answer;
  for (const int descriptor : answer.descriptors) close(descriptor);
  return Error(static_cast<Errc>(header.code), std::move(answer.text));
}

Result<std::vector<int>> ask_for_device(int broker, const BrokerRequest& request,
                                        std::string_view path) {
  TRY(auto answer, ask(broker, request, path));
  if (answer.descriptors.empty()) return no_broker("gave no descriptor");
  return std::move(answer.descriptors);
}

BrokerRequest request_for(BrokerJob job, const CallingProcess& caller, int number = -1) {
  BrokerRequest request;
  request.job = job;
  request.uid = caller.uid;
  request.pid = caller.pid;
  request.number = number;
  return request;
}

}  // namespace

void BrokerProcess::start(const Uuid& volume) {
  int ends[2];
  if (const int err = make_socket_pair(ends)) {
    return log_warning("no broker: {}", text_of_errno(err));
  }
  std::string name = "moltfs-broker", text = volume.to_string();
  char* arguments[] = {name.data(), text.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  const int err = posix_spawn(&process_, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (err == 0) {
    socket_ = ends[0];
    return;
  }
  close(ends[0]);
  process_ = -1;
  log_warning("no broker, so nobody but an ordinary user who mounts can give commands: {}",
              text_of_errno(err));
}

void BrokerProcess::stop() {
  if (socket_ >= 0) close(std::exchange(socket_, -1));
  if (process_ < 0) return;
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
}

Result<void> BrokerProcess::check_admin(const CallingProcess& caller) {
  TRY(ask(socket_, request_for(BrokerJob::check_admin, caller), {}));
  return ok();
}

Result<std::vector<uint32_t>> BrokerProcess::groups_of(const CallingProcess& caller) {
  TRY(const auto answer, ask(socket_, request_for(BrokerJob::groups, caller), {}));
  std::vector<uint32_t> groups;
  std::istringstream numbers(answer.text);
  for (uint32_t group = 0; numbers >> group;) groups.push_back(group);
  return groups;
}

Result<std::vector<int>> BrokerProcess::open_blank(const CallingProcess& caller,
                                                   const std::string& path) {
  return ask_for_device(socket_, request_for(BrokerJob::open_blank, caller), path);
}

Result<std::vector<int>> BrokerProcess::take_target(const CallingProcess& caller, int number,
                                                    const std::string& path) {
  return ask_for_device(socket_, request_for(BrokerJob::take_target, caller, number), path);
}

Result<std::vector<int>> BrokerProcess::open_own(const std::string& path, bool read_only,
                                                 bool exclusive) {
  BrokerRequest request;
  request.job = BrokerJob::open_own;
  request.read_only = read_only ? 1 : 0;
  request.exclusive = exclusive ? 1 : 0;
  return ask_for_device(socket_, request, path);
}

std::vector<std::string> BrokerProcess::candidates() {
  BrokerRequest request;
  request.job = BrokerJob::candidates;
  const auto answer = ask(socket_, request, {});
  std::vector<std::string> paths;
  if (!answer) return paths;
  for (std::string_view rest = answer.value().text; !rest.empty();) {
    const std::string_view path = rest.substr(0, rest.find('\0'));
    paths.emplace_back(path);
    rest.remove_prefix(std::min(rest.size(), path.size() + 1));
  }
  return paths;
}

void BrokerProcess::mounted(const std::string& device_number, const std::string& mountpoint) {
  BrokerRequest request;
  request.job = BrokerJob::mounted;
  const std::string text = device_number + "\n" + mountpoint;
  if (socket_ >= 0) send_message(socket_, packed(request, text), {});
}

Result<void> BrokerProcess::write_back() {
  TRY(ask(socket_, request_for(BrokerJob::write_back, {}), {}));
  return ok();
}

Result<void> BrokerProcess::forget_mount() {
  TRY(ask(socket_, request_for(BrokerJob::forget_mount, {}), {}));
  return ok();
}

void BrokerProcess::log(LogLevel level, const std::string& text) {
  BrokerRequest request;
  request.job = BrokerJob::log;
  request.number = static_cast<int32_t>(level);
  constexpr size_t kTextBytesMax = kMessageBytesMax - sizeof request;
  const std::string_view part = std::string_view(text).substr(0, kTextBytesMax);
  if (socket_ >= 0) send_message(socket_, packed(request, part), {}, MSG_DONTWAIT);
}

Result<UnmountedEverywhere> BrokerProcess::unmount() {
  BrokerRequest request;
  request.job = BrokerJob::unmount;
  TRY(auto answer, ask(socket_, request, {}));
  UnmountedEverywhere result;
  std::istringstream lines(answer.text);
  for (std::string line; std::getline(lines, line);) {
    if (line == kInUse) {
      result.in_use = true;
    } else {
      result.warnings.push_back(line);
    }
  }
  return result;
}

Result<std::shared_ptr<alloc::Device>> ConfinedDevices::open(const std::string& path,
                                                             const Options& options) {
  if (!is_confined_) return devices_->open(path, options);
  TRY(auto descriptors, broker_.open_own(path, options.read_only, options.exclusive));
  return devices_->adopt(std::move(descriptors), path, options);
}

}  // namespace moltfs::fs::daemon
