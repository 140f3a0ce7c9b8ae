// SPDX-License-Identifier: MIT
// The libfuse session and its threads.
#include "fs/fuse/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstring>
#include <optional>
#include <thread>

#include "alloc/base/log.h"
#include "alloc/device/memory_limit.h"
#include "fs/fuse/cpu_latency.h"
#include "fs/fuse/fuse_context.h"
#include "fs/fuse/raw.h"
#include "fs/fuse/receive.h"
#include "fs/fuse/session.h"

namespace moltfs::fs::fuse {
namespace {

thread_local std::span<const std::byte> request_on_this_thread;
thread_local bool counts_as_load = false;
thread_local bool has_reply = false;

unsigned default_threads() {
  return std::clamp(std::thread::hardware_concurrency(), 2u, 8u);
}

/// What libfuse has said while it mounts: the reason if that fails.
std::string* mount_messages = nullptr;

void log_from_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char text[512];
  vsnprintf(text, sizeof text, format, arguments);
  std::string_view line = text;
  if (line.starts_with("fuse: ")) line.remove_prefix(6);
  while (line.ends_with('\n')) line.remove_suffix(1);
  if (mount_messages != nullptr) {
    *mount_messages += fmt::format("{}{}", mount_messages->empty() ? "" : "; ", line);
  } else if (level <= FUSE_LOG_WARNING) {
    log_warning("libfuse: {}", line);
  } else {
    log_info("libfuse: {}", line);
  }
}

ssize_t write_reply(int fd, iovec* parts, int count, void*) {
  const int to = reply_descriptor();
  has_reply = true;
  return send_reply(to >= 0 ? to : fd, parts, count, request_on_this_thread);
}

ssize_t read_nothing(int, void*, size_t, void*) {
  errno = ENOSYS;  // requests come from the receive threads
  return -1;
}

/// What a request takes of the memory for an image on a tmpfs. Nothing for the control directory.
std::optional<alloc::MemoryUse> memory_use_of(const fuse_in_header& header) {
  if (header.nodeid != FUSE_ROOT_ID && header.nodeid < kFirstFreeInode.value) return std::nullopt;
  switch (header.opcode) {
    case FUSE_CREATE:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_SYMLINK:
    case FUSE_LINK:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case kOpTmpfile:
      return alloc::MemoryUse::new_file;
    case FUSE_WRITE:
      return alloc::MemoryUse::content;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<Session> make_session(FuseContext& context, const std::string& options) {
  std::string program = "moltfs", dash_o = "-o", list = options;
  char* arguments[] = {program.data(), dash_o.data(), list.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments);
  const fuse_lowlevel_ops table = routed_operations();
  Session session(fuse_session_new(&args, &table, sizeof table, &context));
  fuse_opt_free_args(&args);
  if (!session) {
    return Error(Errc::invalid_argument,
                 fmt::format("libfuse refuses the options \"{}\"", options));
  }
  return session;
}

bool redirect(fuse_session* session, int fd) {
  fuse_custom_io io{};
  io.writev = write_reply;
  io.read = read_nothing;
  return fuse_session_custom_io(session, &io, fd) == 0;
}

bool handle_request(FuseContext& context, fuse_session* session, std::span<std::byte> request) {
  fuse_in_header header;
  std::memcpy(&header, request.data(), sizeof header);
  counts_as_load = true;
  if (const auto use = memory_use_of(header); use && alloc::memory_is_short_for(*use)) {
    RawRequest{context, header, request, reply_descriptor()}.reply_error(ENOSPC);
    return true;
  }
  if (!answer_raw(context, request, reply_descriptor())) {
    request = without_extension(context, request);
    request_on_this_thread = request;
    fuse_buf buffer{};
    buffer.mem = request.data();
    buffer.size = request.size();
    fuse_session_process_buf(session, &buffer);
    request_on_this_thread = {};
  }
  if (header.opcode == FUSE_INIT) context.initialized = true;
  return counts_as_load;
}

std::span<const std::byte> current_request() {
  return request_on_this_thread;
}

void leave_out_of_load() {
  counts_as_load = false;
}

bool is_replied() {
  return has_reply;
}

void set_replied(bool replied) {
  has_reply = replied;
}

class Server::Impl {
 public:
  Impl(Mount& mount, const Options& options)
      : options_(options), load_(mount.request_load()), context_(mount, options.control) {}
  ~Impl() { shut_down(); }

  Result<void> mount() {
    fuse_set_log_func(log_from_libfuse);
    TRY(session_, make_session(context_, options_.options));
    context_.kernel_cache.set_session(session_.get());
    std::string messages;
    mount_messages = &messages;
    const bool mounted = fuse_session_mount(session_.get(), options_.mountpoint.c_str()) == 0;
    mount_messages = nullptr;
    if (!mounted) {
      return Error(Errc::not_permitted, fmt::format("cannot mount on {}{}{}", options_.mountpoint,
                                                    messages.empty() ? "" : ": ", messages));
    }
    if (!messages.empty()) log_warning("libfuse: {}", messages);
    const int fd = fuse_session_fd(session_.get());
    if (!redirect(session_.get(), fd)) {
      fuse_session_unmount(session_.get());
      return Error(Errc::not_supported, "this libfuse does not support custom input/output");
    }
    Receiver::Options receive;
    receive.base_threads = options_.base_threads != 0 ? options_.base_threads : default_threads();
    receive.max_threads = std::max(options_.max_threads, receive.base_threads);
    receive.max_write_bytes = kMaxWriteBytes;
    receiver_ =
        std::make_unique<Receiver>(fd, receive, load_, [this](std::span<std::byte> request) {
          return handle_request(context_, session_.get(), request);
        });
    return ok();
  }

  void start() {
    if (options_.idle_polling) cpu_latency_.emplace(load_);
    context_.deferred.start();
    receiver_->start();
  }

  bool initialized() const { return context_.initialized; }
  int ended_fd() const { return receiver_->ended_fd(); }
  void set_cache_limit(uint64_t bytes) { context_.low_space.set_limit(bytes); }

  void shut_down() {
    context_.deferred.stop();  // while requests are still served
    receiver_.reset();
    // On a connection that has ended this only frees memory. Otherwise it would unmount by path,
    // and hit another filesystem if ours was detached before.
    if (session_ && connection_ended()) fuse_session_unmount(session_.get());
    session_.reset();
  }

 private:
  bool connection_ended() const {
    pollfd device{fuse_session_fd(session_.get()), 0, 0};
    return ::poll(&device, 1, 0) == 1 && (device.revents & POLLERR) != 0;
  }

  const Options options_;
  RequestLoad& load_;
  FuseContext context_;
  Session session_;
  std::optional<CpuLatencyRequest> cpu_latency_;
  std::unique_ptr<Receiver> receiver_;
};

Result<std::unique_ptr<Server>> Server::mount(Mount& mount, const Options& options) {
  auto impl = std::make_unique<Impl>(mount, options);
  TRY(impl->mount());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

void Server::start() {
  impl_->start();
}

bool Server::wait_until_initialized(unsigned seconds) {
  for (unsigned tick = 0; tick < seconds * 100; ++tick) {
    if (impl_->initialized()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return impl_->initialized();
}

int Server::ended_fd() const {
  return impl_->ended_fd();
}

void Server::set_cache_limit(uint64_t bytes) {
  impl_->set_cache_limit(bytes);
}

void Server::shut_down() {
  impl_->shut_down();
}

}  // namespace moltfs::fs::fuse
