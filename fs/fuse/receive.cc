// SPDX-License-Identifier: MIT
// The receive threads.
#include "fs/fuse/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "alloc/base/blocking.h"
#include "alloc/base/log.h"

namespace moltfs::fs::fuse {
namespace {

thread_local int reply_fd = -1;

/// So many requests found waiting in a row are more than one client's.
constexpr unsigned kBusyStreak = 16;
/// For so long after that several threads wait for requests.
constexpr Nanoseconds kCrowdedFor = std::chrono::milliseconds(5);

Nanoseconds monotonic_now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

void set_waits(int fd, bool waits) {
  int nonblocking = waits ? 0 : 1;
  ioctl(fd, FIONBIO, &nonblocking);
}

}  // namespace

int reply_descriptor() {
  return reply_fd;
}

ReplyDescriptor::ReplyDescriptor(int fd) : before_(reply_fd) {
  reply_fd = fd;
}

ReplyDescriptor::~ReplyDescriptor() {
  reply_fd = before_;
}

ReceiveBuffer::ReceiveBuffer(size_t max_write_bytes)
    : memory_(kBlockSize + round_up(max_write_bytes, kBlockSize)) {}

Receiver::Receiver(int device_fd, const Options& options, Handler handler)
    : device_fd_(device_fd),
      options_(options),
      handler_(std::move(handler)),
      ended_fd_(eventfd(0, EFD_CLOEXEC)) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // no SA_RESTART: read() gives EINTR
  sigaction(kWakeSignal, &action, nullptr);
}

Receiver::~Receiver() {
  stop();
  join();
  close(ended_fd_);
}

void Receiver::start() {
  std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < options_.base_threads; ++i) {
    ++running_;
    ++waiting_;
    threads_.emplace_back([this] { run(); });
  }
}

void Receiver::join() {
  std::vector<std::thread> threads;
  {
    std::unique_lock lock(mutex_);
    // A signal may come just before a thread goes into read(): repeat it until all are gone.
    while (running_ > 0) {
      if (stopping_) {
        parked_wake_.notify_all();
        for (std::thread& thread : threads_) pthread_kill(thread.native_handle(), kWakeSignal);
      }
      exit_wake_.wait_for(lock, std::chrono::milliseconds(20));
    }
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

int Receiver::clone_device() const {
  const int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  uint32_t master = static_cast<uint32_t>(device_fd_);
  if (ioctl(fd, FUSE_DEV_IOC_CLONE, &master) == 0) return fd;
  close(fd);
  return -1;
}

void Receiver::run() {
  pthread_setname_np(pthread_self(), "moltfs-fuse");
  const int clone = clone_device();
  Source source;
  source.fd = clone >= 0 ? clone : device_fd_;
  {
    const ReplyDescriptor reply_to(source.fd);
    const BlockingListener listener([this] { about_to_block(); });
    ReceiveBuffer buffer(options_.max_write_bytes);
    set_waits(source.fd, false);
    while (!stopping_ && receive_and_handle(source, buffer)) {
      if (waiting_ >= wanted() && !park()) break;
      ++waiting_;
    }
  }
  if (clone >= 0) close(clone);
  std::lock_guard lock(mutex_);
  --running_;
  exit_wake_.notify_all();
}

int Receiver::wanted() const {
  const bool crowded = monotonic_now().count() < crowded_until_.load(std::memory_order_relaxed);
  return crowded ? static_cast<int>(options_.base_threads) : 1;
}

void Receiver::about_to_block() {
  if (waiting_ == 0) call_help();
}

ssize_t Receiver::receive(Source& source, ReceiveBuffer& buffer) {
  ssize_t size = read(source.fd, buffer.data(), buffer.size());
  if (size >= 0 || errno != EAGAIN) {
    ++source.streak;
    return size;
  }
  source.streak = 0;
  const Nanoseconds since = monotonic_now();
  if (waiting_ == 1 && source.eagerness.pays() && spare_cpu_.is_there(since)) {
    size = look(buffer, source.fd, since);
  }
  if (size < 0 && errno == EAGAIN) {
    // Where threads share a descriptor it may not wait after all: then it is tried again.
    set_waits(source.fd, true);
    size = read(source.fd, buffer.data(), buffer.size());
    const int error = errno;
    set_waits(source.fd, false);
    errno = error;
  }
  if (size >= 0) source.eagerness.waited(monotonic_now() - since);
  return size;
}

/// Reads without waiting until there is something or it has been long enough. Another thread that
/// waits for requests is better at it.
ssize_t Receiver::look(ReceiveBuffer& buffer, int fd, Nanoseconds since) {
  for (Nanoseconds before = since;;) {
    sched_yield();
    const ssize_t size = read(fd, buffer.data(), buffer.size());
    const int error = errno;
    const Nanoseconds now = monotonic_now();
    const bool undisturbed = spare_cpu_.offered(now - before, now);
    errno = error;
    if (size >= 0 || error != EAGAIN) return size;
    if (!undisturbed || now - since >= AdaptiveSpin::kLook || waiting_ > 1 || stopping_)
      return size;
    before = now;
  }
}

bool Receiver::receive_and_handle(Source& source, ReceiveBuffer& buffer) {
  for (;;) {
    const ssize_t size = receive(source, buffer);
    if (size < 0) {
      // ENOENT: the request was taken back before it could be read.
      const bool again = errno == EINTR || errno == EAGAIN || errno == ENOENT;
      if (again && !stopping_) continue;
      if (!again && errno != ENODEV) log_error("reading /dev/fuse: {}", strerror(errno));
      break;
    }
    if (static_cast<size_t>(size) < sizeof(fuse_in_header)) {
      if (size == 0) break;
      continue;
    }
    --waiting_;
    if (source.streak >= kBusyStreak) share_work();
    handler_({buffer.data(), static_cast<size_t>(size)});
    return true;
  }
  // The others find out by themselves, or are woken.
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    parked_wake_.notify_all();
  }
  const uint64_t one = 1;
  if (write(ended_fd_, &one, sizeof one) != sizeof one) log_error("eventfd write failed");
  return false;
}

void Receiver::share_work() {
  crowded_until_.store((monotonic_now() + kCrowdedFor).count(), std::memory_order_relaxed);
  if (waiting_ == 0) call_help();
}

void Receiver::call_help() {
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  if (parked_ > calls_) {
    ++calls_;
    parked_wake_.notify_one();
    return;
  }
  if (running_ >= options_.max_threads) return;
  ++running_;
  ++waiting_;
  threads_.emplace_back([this] { run(); });
}

/// Waits until this thread is needed; false: it is not needed any more.
bool Receiver::park() {
  std::unique_lock lock(mutex_);
  ++parked_;
  parked_wake_.wait(lock, [this] { return calls_ > 0 || stopping_; });
  --parked_;
  if (stopping_) return false;
  --calls_;
  return true;
}

}  // namespace moltfs::fs::fuse
