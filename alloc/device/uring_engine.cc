// SPDX-License-Identifier: MIT
// A batch needs one or a few system calls.
//
// Unused rings are in a list. run() takes one for the time of a batch, so any number of threads can
// run batches side by side, and no two share a ring. A request has a slot of its ring while it is
// in flight. After a short transfer the rest is submitted again.
#include "alloc/device/uring_engine.h"

#ifndef MOLTFS_HAVE_URING

#include <cerrno>

std::unique_ptr<moltfs::alloc::IoEngine> moltfs::alloc::make_uring_engine() {
  errno = ENOSYS;
  return nullptr;
}

#else

#include <liburing.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <mutex>

#include "alloc/base/assert.h"
#include "alloc/base/blocking.h"
#include "alloc/base/log.h"
#include "alloc/device/file_io.h"

namespace moltfs::alloc {
namespace {

/// Requests of one batch that are in flight at once.
constexpr unsigned kQueueDepth = 128;
/// io_uring has 32 bits for a length. Longer requests are transferred in parts.
constexpr size_t kTransferBytesMax = size_t{1} << 30;
constexpr std::array<uint8_t, 3> kOperations = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC};
/// Unused rings that are kept.
constexpr size_t kIdleRingsMax = 32;

class Ring {
 public:
  /// Null if the kernel refuses; errno says why.
  static std::unique_ptr<Ring> make() {
    std::unique_ptr<Ring> ring(new Ring);
    int failed = io_uring_queue_init(kQueueDepth, &ring->ring_, IORING_SETUP_R_DISABLED);
    if (failed == -EINVAL) failed = io_uring_queue_init(kQueueDepth, &ring->ring_, 0);
    if (failed < 0) {
      errno = -failed;
      return nullptr;
    }
    ring->open_ = true;
    if (!ring->has_operations()) {
      errno = EOPNOTSUPP;
      return nullptr;
    }
    if ((ring->ring_.flags & IORING_SETUP_R_DISABLED) != 0) {
      ring->is_restricted_ = ring->restrict_and_enable();
    }
    return ring;
  }
  ~Ring() {
    if (open_) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Whether it can do nothing but kOperations. Not before Linux 5.10.
  bool is_restricted() const { return is_restricted_; }
  /// Carries out all requests. False: the ring is broken and must not be used again.
  bool run(std::span<IoRequest> requests);

 private:
  struct Slot {
    IoRequest* request = nullptr;  // null: free
    size_t moved = 0;              // bytes transferred so far
  };

  Ring() {
    unfinished_.reserve(kQueueDepth);  // no exception may end a batch that is in flight
    for (unsigned i = 0; i < kQueueDepth; ++i) free_slots_.push_back(kQueueDepth - 1 - i);
  }
  /// From then on the ring can read, write and sync, and nothing else: a filter of system calls
  /// does not see what a ring is asked to do. False: the kernel has refused that.
  bool restrict_and_enable() {
    std::array<io_uring_restriction, 3> allowed{};
    for (size_t i = 0; i < allowed.size(); ++i) {
      allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
      allowed[i].sqe_op = kOperations[i];
    }
    // liburing declares functions for these; in some versions the library lacks them.
    const int fd = ring_.ring_fd;
    const bool restricted = syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS,
                                    allowed.data(), allowed.size()) == 0;
    syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    return restricted;
  }
  bool has_operations() {
    io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return false;
    bool all = true;
    for (const uint8_t op : kOperations) all = all && io_uring_opcode_supported(probe, op);
    io_uring_free_probe(probe);
    return all;
  }
  void prepare(unsigned slot_index);
  void take_completions();
  void complete(unsigned slot_index, int result);
  void release(unsigned slot_index, int err);
  void abandon();

  io_uring ring_{};
  bool open_ = false, is_restricted_ = false;
  std::array<Slot, kQueueDepth> slots_;
  std::vector<unsigned> free_slots_;
  std::vector<unsigned> unfinished_;  // slots whose transfer was short, to be submitted again
};

void Ring::prepare(unsigned slot_index) {
  const Slot& slot = slots_[slot_index];
  const IoRequest& request = *slot.request;
  const int fd = file_device_of(request).fd();
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  ASSERT(entry != nullptr);  // there are as many slots as entries
  std::byte* const data = request.data + slot.moved;
  const auto length =
      static_cast<unsigned>(std::min(request.length - slot.moved, kTransferBytesMax));
  if (request.op == IoOp::read) {
    io_uring_prep_read(entry, fd, data, length, request.offset + slot.moved);
  } else if (request.op == IoOp::write) {
    io_uring_prep_write(entry, fd, data, length, request.offset + slot.moved);
  } else {
    io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
  }
  io_uring_sqe_set_data64(entry, slot_index);
}

void Ring::release(unsigned slot_index, int err) {
  finish(*slots_[slot_index].request, err);
  slots_[slot_index] = {};
  free_slots_.push_back(slot_index);
}

void Ring::complete(unsigned slot_index, int result) {
  Slot& slot = slots_[slot_index];
  if (result == -EINTR) {
    unfinished_.push_back(slot_index);
  } else if (result == -EAGAIN || result == -ECANCELED || result == -ENOMEM) {
    // The kernel has no thread or memory to do it in the background; this thread can wait for it.
    release(slot_index, perform(*slot.request));
  } else if (result < 0) {
    release(slot_index, -result);
  } else if (slot.request->op == IoOp::flush) {
    release(slot_index, 0);
  } else if (result == 0) {
    release(slot_index, EIO);  // the file was truncated
  } else {
    slot.moved += static_cast<unsigned>(result);
    if (slot.moved == slot.request->length) {
      release(slot_index, 0);
    } else {
      unfinished_.push_back(slot_index);
    }
  }
}

void Ring::take_completions() {
  io_uring_cqe* entry = nullptr;
  while (io_uring_peek_cqe(&ring_, &entry) == 0) {
    const auto slot_index = static_cast<unsigned>(io_uring_cqe_get_data64(entry));
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    complete(slot_index, result);
  }
}

bool Ring::run(std::span<IoRequest> requests) {
  announce_blocking();
  size_t next = 0;
  for (;;) {
    for (const unsigned slot_index : unfinished_) prepare(slot_index);
    unfinished_.clear();
    for (; next < requests.size() && !free_slots_.empty(); ++next) {
      IoRequest& request = requests[next];
      if (!admit(request)) continue;
      if (request.op == IoOp::discard) {  // io_uring has no operation for it
        finish(request, perform(request));
        continue;
      }
      const unsigned slot_index = free_slots_.back();
      free_slots_.pop_back();
      slots_[slot_index] = {&request, 0};
      prepare(slot_index);
    }
    const auto in_flight = static_cast<unsigned>(kQueueDepth - free_slots_.size());
    if (in_flight == 0) return true;
    // If requests are left, the ring is refilled when half of those in flight are done.
    const unsigned wait_for = next < requests.size() ? (in_flight + 1) / 2 : in_flight;
    const int submitted = io_uring_submit_and_wait(&ring_, wait_for);
    const bool try_again = submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY;
    if (submitted < 0 && !try_again) {
      log_warning("io_uring failed ({}); doing the I/O without it", text_of_errno(-submitted));
      abandon();
      for (IoRequest& request : requests.subspan(next)) run_here(request);
      return false;
    }
    take_completions();
  }
}

/// After a failed submission: waits for the requests that the kernel has taken, and does the others
/// on this thread.
void Ring::abandon() {
  const size_t occupied = kQueueDepth - free_slots_.size();
  for (size_t with_kernel = occupied - io_uring_sq_ready(&ring_); with_kernel > 0;) {
    io_uring_cqe* entry = nullptr;
    const int waited = io_uring_wait_cqe(&ring_, &entry);
    ASSERT(waited == 0 || waited == -EINTR ||
           waited == -EAGAIN);  // otherwise the kernel may still use the buffers
    if (waited != 0) continue;
    const auto slot_index = static_cast<unsigned>(io_uring_cqe_get_data64(entry));
    const int result = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    complete(slot_index, result);
    --with_kernel;
  }
  for (unsigned i = 0; i < kQueueDepth; ++i) {
    if (slots_[i].request != nullptr) release(i, perform(*slots_[i].request));
  }
}

class UringEngine final : public IoEngine {
 public:
  explicit UringEngine(std::unique_ptr<Ring> first) { idle_.push_back(std::move(first)); }

  std::string_view name() const override { return "io_uring"; }

  void finish_setup() override {
    {
      std::lock_guard lock(mutex_);
      takes_unrestricted_ = false;
      std::erase_if(idle_, [](const auto& ring) { return !ring->is_restricted(); });
    }
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    const size_t wanted = std::min<rlim_t>(kIdleRingsMax, files.rlim_cur / 16);
    std::vector<std::unique_ptr<Ring> > rings;
    while (rings.size() < wanted) {
      auto ring = Ring::make();
      if (ring == nullptr || !ring->is_restricted()) break;
      rings.push_back(std::move(ring));
    }
    for (auto& ring : rings) give_back(std::move(ring));
  }

  void run(std::span<IoRequest> requests) override {
    std::unique_ptr<Ring> ring = requests.size() > 1 ? take_ring() : nullptr;
    if (ring == nullptr) {  // a single request, or another ring cannot be made
      for (IoRequest& request : requests) run_here(request);
      return;
    }
    if (ring->run(requests)) give_back(std::move(ring));
  }

 private:
  std::unique_ptr<Ring> take_ring() {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        auto ring = std::move(idle_.back());
        idle_.pop_back();
        return ring;
      }
    }
    return Ring::make();
  }

  void give_back(std::unique_ptr<Ring> ring) {
    std::lock_guard lock(mutex_);
    if (!takes_unrestricted_ && !ring->is_restricted()) return;
    if (idle_.size() < kIdleRingsMax) idle_.push_back(std::move(ring));
  }

  std::mutex mutex_;  // guards all below
  std::vector<std::unique_ptr<Ring> > idle_;
  bool takes_unrestricted_ = true;  // until finish_setup()
};

}  // namespace

std::unique_ptr<IoEngine> make_uring_engine() {
  auto ring = Ring::make();
  if (ring == nullptr) return nullptr;
  return std::make_unique<UringEngine>(std::move(ring));
}

}  // namespace moltfs::alloc
#endif
