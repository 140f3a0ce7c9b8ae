// SPDX-License-Identifier: MIT
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
#include <memory>
#include <new>
#include <system_error>

#include "alloc/base/blocking.h"
#include "alloc/base/log.h"

namespace moltfs::fs::fuse {
namespace {

thread_local int reply_fd = -1;

constexpr Nanoseconds kSpin = std::chrono::microseconds(60);  ///< before it sleeps
/// After a thread could not be started, none is tried for so long.
constexpr Nanoseconds kWithoutThreads = std::chrono::milliseconds(100);

void set_waits(int fd, bool waits) {
  int nonblocking = waits ? 0 : 1;
  ::ioctl(fd, FIONBIO, &nonblocking);
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

Receiver::Receiver(int device_fd, const Options& options, RequestLoad& load, Handler handler)
    : device_fd_(device_fd),
      options_(options),
      load_(load),
      handler_(std::move(handler)),
      ended_fd_(eventfd(0, EFD_CLOEXEC)) {
  if (ended_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // no SA_RESTART: read() fails with EINTR
  sigaction(kWakeSignal, &action, nullptr);
}

Receiver::~Receiver() {
  stop();
  join();
  ::close(ended_fd_);
}

void Receiver::start() {
  std::lock_guard lock(mutex_);
  for (unsigned i = 0; i < options_.base_threads; ++i) {
    const int error = start_thread();
    if (error == 0) continue;
    if (i >= kThreadsNeeded) break;
    throw std::system_error(error, std::generic_category(),
                            "cannot start the threads that serve requests");
  }
}

/// Returns 0 or an errno. REQUIRES: mutex_.
int Receiver::start_thread() {
  ++running_;
  ++waiting_;
  int error = ENOMEM;
  try {
    auto buffer = std::make_shared<ReceiveBuffer>(options_.max_write_bytes);
    threads_.emplace_back([this, buffer = std::move(buffer)] { run(*buffer); });
    return 0;
  } catch (const std::system_error& no_thread) {
    error = no_thread.code().value();
  } catch (const std::bad_alloc&) {
  }
  --running_;
  --waiting_;
  return error;
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
  const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  uint32_t master = static_cast<uint32_t>(device_fd_);
  if (::ioctl(fd, FUSE_DEV_IOC_CLONE, &master) == 0) return fd;
  ::close(fd);
  return -1;
}

void Receiver::run(ReceiveBuffer& buffer) {
  pthread_setname_np(pthread_self(), "moltfs-fuse");
  const int clone = clone_device();
  {
    Thread thread{clone >= 0 ? clone : device_fd_, buffer, RequestLoad::Thread(load_), load_.now()};
    const ReplyDescriptor reply_to(thread.fd);
    const BlockingListener listener([this] { call_if_nobody_waits(); });
    set_waits(thread.fd, false);
    while (!stopping_) {
      const auto size = next_request(thread);
      if (!size) break;
      --waiting_;
      handle(thread, *size);
      if (waiting_ >= wanted(thread.free_since)) {
        if (!park()) break;
        thread.free_since = load_.now();
      }
      ++waiting_;
    }
  }
  if (clone >= 0) ::close(clone);
  std::lock_guard lock(mutex_);
  --running_;
  exit_wake_.notify_all();
}

int Receiver::wanted(Nanoseconds now) const {
  return load_.has_backlog(now) ? static_cast<int>(options_.base_threads) : 1;
}

std::optional<size_t> Receiver::next_request(Thread& thread) {
  for (;; thread.free_since = load_.now()) {
    const ssize_t size = wait_for_request(thread);
    if (size >= static_cast<ssize_t>(sizeof(fuse_in_header))) return static_cast<size_t>(size);
    if (size > 0) continue;
    // ENOENT: the request was taken back before it could be read.
    const bool again = size < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT);
    if (again && !stopping_) continue;
    if (size < 0 && !again && errno != ENODEV) {
      log_error("reading /dev/fuse: {}", strerror(errno));
    }
    connection_ended();
    return std::nullopt;
  }
}

/// As read(2), but waits. Where threads share a descriptor it may fail with EAGAIN all the same.
ssize_t Receiver::wait_for_request(Thread& thread) {
  ssize_t size = poll(thread);
  if (size >= 0 || errno != EAGAIN) {
    thread.taken = thread.free_since;
    thread.load.took_request(Nanoseconds::zero(), thread.taken);
    return size;
  }
  bool must_sleep = true;
  if (waiting_ == 1 && thread.load.spinning_pays() && cpu_load_.has_spare(thread.free_since)) {
    size = spin(thread);
    must_sleep = size < 0 && errno == EAGAIN;
  }
  if (must_sleep) size = sleep(thread);
  if (size < 0) return size;
  thread.taken = load_.now();
  thread.load.took_request(thread.taken - thread.free_since, thread.taken);
  return size;
}

ssize_t Receiver::poll(Thread& thread) const {
  return ::read(thread.fd, thread.buffer.data(), thread.buffer.size());
}

/// Polls until a request comes, it has been long enough, the CPU is wanted by others, or another
/// thread waits, too: that one will sleep, and wake at once.
ssize_t Receiver::spin(Thread& thread) {
  for (Nanoseconds before = thread.free_since;;) {
    ::sched_yield();
    const ssize_t size = poll(thread);
    const int error = errno;
    const Nanoseconds now = load_.now();
    const bool undisturbed = cpu_load_.yielded(now - before, now);
    errno = error;
    if (size >= 0 || error != EAGAIN) return size;
    if (!undisturbed || now - thread.free_since >= kSpin || waiting_ > 1 || stopping_) return size;
    before = now;
  }
}

ssize_t Receiver::sleep(Thread& thread) const {
  set_waits(thread.fd, true);
  const ssize_t size = poll(thread);
  const int error = errno;
  set_waits(thread.fd, false);
  errno = error;
  return size;
}

void Receiver::handle(Thread& thread, size_t size) {
  if (thread.load.has_backlog()) call_if_nobody_waits();
  const bool counts = handler_({thread.buffer.data(), size});
  thread.free_since = load_.now();
  if (counts) thread.load.handled_request(thread.taken, thread.free_since);
}

/// The other threads find out by themselves, or are parked and woken here.
void Receiver::connection_ended() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    parked_wake_.notify_all();
  }
  const uint64_t one = 1;
  if (::write(ended_fd_, &one, sizeof one) != sizeof one) log_error("eventfd write failed");
}

void Receiver::call_if_nobody_waits() {
  if (waiting_ > 0) return;
  std::lock_guard lock(mutex_);
  if (stopping_) return;
  if (parked_ > calls_) {
    ++calls_;
    parked_wake_.notify_one();
    return;
  }
  if (running_ >= options_.max_threads) return;
  const Nanoseconds now = load_.now();
  if (now < no_threads_until_) return;
  const int error = start_thread();
  if (error == 0) return;
  // Requests wait a little longer: those under way end without another thread.
  if (no_threads_until_ == Nanoseconds::zero()) {
    log_warning("{} threads serve requests, and another cannot be started: {}", running_,
                strerror(error));
  }
  no_threads_until_ = now + kWithoutThreads;
}

/// Waits until this thread is called. False: it is to end.
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
