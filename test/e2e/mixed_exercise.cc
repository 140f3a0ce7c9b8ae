// SPDX-License-Identifier: MIT
// Random writes of every kind to files that other processes change at the same time. There is no
// model, because the content depends on the order of the processes. But what can be read when all
// have ended must be the same after an unmount. The caller compares that.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "test/e2e/exercise.h"
#include "test/e2e/random.h"

namespace e2e {
namespace {

constexpr uint64_t kFiles = 200, kBlock = 4096;
constexpr unsigned kDepth = 8;

sigjmp_buf fault_point;

/// Another process has cut the file under the mapping.
void on_bus_error(int) {
  siglongjmp(fault_point, 1);
}

/// Asynchronous writes by io_submit(2).
class Aio {
 public:
  Aio() { works_ = syscall(SYS_io_setup, 64, &context_) == 0; }
  bool works() const { return works_; }
  bool write(int fd, const void* data, uint64_t length, uint64_t offset) {
    iocb block{};
    block.aio_fildes = static_cast<uint32_t>(fd);
    block.aio_lio_opcode = IOCB_CMD_PWRITE;
    block.aio_buf = reinterpret_cast<uint64_t>(data);
    block.aio_nbytes = length;
    block.aio_offset = static_cast<int64_t>(offset);
    iocb* one = &block;
    return syscall(SYS_io_submit, context_, 1, &one) == 1;
  }
  void wait(unsigned count) {
    io_event events[kDepth];
    for (unsigned done = 0; done < count;) {
      const long got = syscall(SYS_io_getevents, context_, 1, kDepth, events, nullptr);
      if (got <= 0 && errno != EINTR) return;
      if (got > 0) done += static_cast<unsigned>(got);
    }
  }

 private:
  aio_context_t context_ = 0;
  bool works_ = false;
};

/// The same by io_uring.
class Ring {
 public:
  Ring() {
    io_uring_params params{};
    fd_ = static_cast<int>(syscall(SYS_io_uring_setup, kDepth, &params));
    if (fd_ < 0) return;
    const size_t submissions = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    const size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    auto* sq = map(submissions, IORING_OFF_SQ_RING);
    auto* cq = map(completions, IORING_OFF_CQ_RING);
    auto* entries = map(params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
    if (sq == nullptr || cq == nullptr || entries == nullptr) return;
    tail_ = reinterpret_cast<uint32_t*>(sq + params.sq_off.tail);
    mask_ = *reinterpret_cast<uint32_t*>(sq + params.sq_off.ring_mask);
    array_ = reinterpret_cast<uint32_t*>(sq + params.sq_off.array);
    done_head_ = reinterpret_cast<uint32_t*>(cq + params.cq_off.head);
    done_tail_ = reinterpret_cast<uint32_t*>(cq + params.cq_off.tail);
    entries_ = reinterpret_cast<io_uring_sqe*>(entries);
    works_ = true;
  }
  bool works() const { return works_; }
  bool write(int fd, const void* data, uint64_t length, uint64_t offset) {
    const uint32_t tail = *tail_, slot = tail & mask_;
    io_uring_sqe& entry = entries_[slot];
    entry = {};
    entry.opcode = IORING_OP_WRITE;
    entry.fd = fd;
    entry.addr = reinterpret_cast<uint64_t>(data);
    entry.len = static_cast<uint32_t>(length);
    entry.off = offset;
    array_[slot] = slot;
    __atomic_store_n(tail_, tail + 1, __ATOMIC_RELEASE);
    return enter(1, 0) == 1;
  }
  void wait(unsigned count) {
    for (unsigned done = 0; done < count;) {
      const uint32_t head = *done_head_, tail = __atomic_load_n(done_tail_, __ATOMIC_ACQUIRE);
      done += tail - head;
      __atomic_store_n(done_head_, tail, __ATOMIC_RELEASE);
      if (done < count && enter(0, 1) < 0 && errno != EINTR) return;
    }
  }

 private:
  std::byte* map(size_t length, uint64_t what) const {
    void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_,
                    static_cast<off_t>(what));
    return at == MAP_FAILED ? nullptr : static_cast<std::byte*>(at);
  }
  long enter(unsigned submit, unsigned wait_for) const {
    const unsigned flags = wait_for > 0 ? IORING_ENTER_GETEVENTS : 0;
    return syscall(SYS_io_uring_enter, fd_, submit, wait_for, flags, nullptr, 0);
  }

  int fd_ = -1;
  bool works_ = false;
  uint32_t *tail_ = nullptr, *array_ = nullptr, *done_head_ = nullptr, *done_tail_ = nullptr;
  uint32_t mask_ = 0;
  io_uring_sqe* entries_ = nullptr;
};

class Mixer {
 public:
  explicit Mixer(const Settings& settings) : settings_(settings), random_(settings.seed) {
    memory_ = static_cast<char*>(std::aligned_alloc(kBlock, kDepth * kMaxWrite));
    if (memory_ == nullptr) give_up(kBroken, "memory");
  }

  void step() {
    ++number_;
    const bool direct = random_.one_in(2);
    const int fd = open_any(direct);
    if (fd < 0) return;
    switch (random_.below(12)) {
      case 0:
      case 1:
        plain_write(fd, direct);
        break;
      case 2:
      case 3:
        queue(aio_, fd, direct);
        break;
      case 4:
      case 5:
        queue(ring_, fd, direct);
        break;
      case 6:
      case 7:
        store(fd);
        break;
      case 8:
        truncate(fd);
        break;
      case 9:
        allocate(fd);
        break;
      case 10:
        copy(fd);
        break;
      default:
        read(fd, direct);
    }
    if (random_.one_in(20)) check("fsync", [&] { return fsync(fd); });
    close(fd);
  }

 private:
  static constexpr uint64_t kMaxWrite = 64 * 1024;

  /// Makes a system call, and ends the process if a program would be told of damage. Refusals of
  /// the kernel are not damage.
  ///
  /// A process that is killed may leave EIO for another one: the kernel gives up writing the times
  /// of its file, and keeps that as an error of the file that is told once. The daemon has seen no
  /// error then (the caller asks it), and a second call works.
  template <class Call>
  void check(const char* what, const Call& call) {
    long result = call();
    if (result < 0 && errno == EIO) result = call();
    if (result >= 0) return;
    if (errno == EIO || errno == EUCLEAN) give_up(kWrong, what);
    if (errno == ENOTCONN || errno == ECONNABORTED) give_up(kGone, what);
  }

  int open_any(bool direct) {
    const std::string path = settings_.path + "/" + std::to_string(random_.below(kFiles));
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | (direct ? O_DIRECT : 0);
    int fd = -1;
    check("open", [&] { return fd = open(path.c_str(), flags, 0644); });
    return fd;
  }

  uint64_t any_offset(bool aligned) {
    const uint64_t offset = random_.below(settings_.max_size);
    return aligned ? offset / kBlock * kBlock : offset;
  }

  /// Bytes that no other process writes, in slot `slot` of the memory.
  char* fresh_bytes(unsigned slot, uint64_t offset, uint64_t length) {
    char* at = memory_ + slot * kMaxWrite;
    const std::string bytes =
        pattern(settings_.seed << 32 | number_ * kDepth | slot, offset, length);
    std::memcpy(at, bytes.data(), length);
    return at;
  }
  uint64_t any_length(bool direct) {
    return direct ? (1 + random_.below(kMaxWrite / kBlock)) * kBlock : 1 + random_.below(kMaxWrite);
  }

  void plain_write(int fd, bool direct) {
    const uint64_t offset = any_offset(direct), length = any_length(direct);
    const char* bytes = fresh_bytes(0, offset, length);
    check("write", [&] { return pwrite(fd, bytes, length, static_cast<off_t>(offset)); });
  }

  template <class Queue>
  void queue(Queue& queue, int fd, bool direct) {
    if (!queue.works()) return plain_write(fd, direct);
    unsigned queued = 0;
    for (unsigned i = 1 + static_cast<unsigned>(random_.below(kDepth)); i > 0; --i) {
      const uint64_t offset = any_offset(direct), length = any_length(direct);
      if (queue.write(fd, fresh_bytes(i - 1, offset, length), length, offset)) ++queued;
    }
    queue.wait(queued);
  }

  void store(int fd) {
    struct stat state {};
    if (fstat(fd, &state) != 0 || state.st_size == 0) return;
    const auto size = static_cast<uint64_t>(state.st_size);
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return;
    auto* bytes = static_cast<volatile char*>(at);
    if (sigsetjmp(fault_point, 1) == 0) {
      for (int i = 0; i < 8; ++i) {
        const uint64_t from = random_.below(size);
        const uint64_t length = std::min<uint64_t>(size - from, 1 + random_.below(3000));
        for (uint64_t k = 0; k < length; ++k)
          bytes[from + k] = static_cast<char>((number_ + k) | 1);
      }
      if (random_.one_in(4)) check("msync", [&] { return msync(at, size, MS_SYNC); });
    }
    munmap(at, size);
  }

  void truncate(int fd) {
    const auto size = static_cast<off_t>(any_offset(random_.one_in(2)));
    check("ftruncate", [&] { return ftruncate(fd, size); });
  }

  void allocate(int fd) {
    constexpr int kModes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    const bool aligned = random_.one_in(2);
    const int mode = kModes[random_.below(std::size(kModes))];
    const auto offset = static_cast<off_t>(any_offset(aligned));
    const auto length = static_cast<off_t>(any_length(aligned));
    check("fallocate", [&] { return fallocate(fd, mode, offset, length); });
  }

  void copy(int fd) {
    const int from = open_any(false);
    if (from < 0) return;
    const bool aligned = random_.one_in(2);
    off_t from_offset = static_cast<off_t>(any_offset(aligned));
    off_t to_offset = static_cast<off_t>(any_offset(aligned));
    const uint64_t length = any_length(aligned);
    check("copy", [&] { return copy_file_range(from, &from_offset, fd, &to_offset, length, 0); });
    close(from);
  }

  void read(int fd, bool direct) {
    const uint64_t offset = any_offset(direct), length = any_length(direct);
    check("read", [&] { return pread(fd, memory_, length, static_cast<off_t>(offset)); });
  }

  const Settings& settings_;
  Random random_;
  uint64_t number_ = 0;
  char* memory_ = nullptr;
  Aio aio_;
  Ring ring_;
};

}  // namespace

int exercise_overtaken(const Settings& settings) {
  constexpr uint64_t kWriteBytes = 1 << 20;
  constexpr unsigned kWrites = 4;
  Aio aio;
  if (!aio.works()) give_up(kBroken, "io_setup");
  Random random(settings.seed);
  auto* memory = static_cast<char*>(std::aligned_alloc(kBlock, kWriteBytes));
  if (memory == nullptr) give_up(kBroken, "memory");
  std::memset(memory, 'A', kWriteBytes);
  for (uint64_t i = 0; i < settings.operations && may_go_on(settings.seconds); ++i) {
    const std::string path = settings.path + "/" + std::to_string(i);
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (fd < 0) give_up(kBroken, "open");
    if (ftruncate(fd, kWrites * kWriteBytes) != 0) give_up(kBroken, "ftruncate");
    unsigned queued = 0;
    for (unsigned k = 0; k < kWrites; ++k) {
      if (aio.write(fd, memory, kWriteBytes, k * kWriteBytes)) ++queued;
    }
    const auto size = static_cast<off_t>(random.below(kWrites * kWriteBytes));
    if (ftruncate(fd, size) != 0) give_up(kBroken, "ftruncate");
    aio.wait(queued);
    close(fd);
  }
  return kRight;
}

int exercise_mixed(const Settings& settings) {
  struct sigaction action {};
  action.sa_handler = on_bus_error;
  sigaction(SIGBUS, &action, nullptr);
  Mixer mixer(settings);
  for (uint64_t i = 0; i < settings.operations && may_go_on(settings.seconds); ++i) mixer.step();
  return kRight;
}

}  // namespace e2e
