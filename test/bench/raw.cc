// SPDX-License-Identifier: MIT
// The speed of the devices themselves: io_uring, direct I/O, registered buffers, one flush at the
// end. Prints the time as one JSON object. Overwrites the devices that it writes to.
//
//   bench_raw copy SOURCE TARGET BYTES DEPTH UNIT      the first BYTES of SOURCE to TARGET
//   bench_raw write DEVICE BYTES DEPTH UNIT [SEED]     in order, or with SEED at random places
//   bench_raw read DEVICE BYTES DEPTH UNIT [SEED]      likewise
#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <optional>
#include <string_view>

#include "test/bench/measure.h"

namespace moltfs::bench {
namespace {

struct Job {
  int source = -1, target = -1;  // -1: nothing to read; nothing to write
  uint64_t bytes = 0, depth = 16, unit = kMebibyte;
  std::optional<uint64_t> seed;
  uint64_t span = 0;  // random offsets are below this
};

/// liburing's calls return -errno.
void must_ring(int result, const char* what) {
  if (result >= 0) return;
  errno = -result;
  fail(what);
}

/// A ring with one registered buffer for each unit in flight.
class Pump {
 public:
  explicit Pump(const Job& job) : job_(job), random_(job.seed.value_or(0)) {
    must_ring(io_uring_queue_init(static_cast<unsigned>(2 * job.depth), &ring_, 0), "io_uring");
    std::vector<iovec> vectors;
    for (uint64_t i = 0; i < job.depth; i++) {
      buffers_.emplace_back(job.unit);
      vectors.push_back({buffers_.back().data(), job.unit});
    }
    must_ring(
        io_uring_register_buffers(&ring_, vectors.data(), static_cast<unsigned>(vectors.size())),
        "registering buffers");
    offsets_.resize(job.depth);
  }
  ~Pump() { io_uring_queue_exit(&ring_); }

  void run() {
    for (uint64_t slot = 0; slot < job_.depth; slot++) start(slot);
    while (in_flight_ > 0) {
      must_ring(io_uring_submit_and_wait(&ring_, 1), "submitting");
      io_uring_cqe* done;
      while (io_uring_peek_cqe(&ring_, &done) == 0) {
        const uint64_t slot = done->user_data / 2;
        const bool was_read = done->user_data % 2 == 0;
        if (done->res != static_cast<int>(job_.unit)) fail("failed or short I/O");
        io_uring_cqe_seen(&ring_, done);
        in_flight_--;
        if (was_read && job_.target >= 0) {
          write(slot);
        } else {
          start(slot);
        }
      }
    }
    if (job_.target >= 0) must(fdatasync(job_.target), "fdatasync");
  }

 private:
  void start(uint64_t slot) {
    if (next_ >= job_.bytes) return;
    offsets_[slot] = job_.seed ? random_.below(job_.span / job_.unit) * job_.unit : next_;
    next_ += job_.unit;
    if (job_.source < 0) return write(slot);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_read_fixed(sqe, job_.source, buffers_[slot].data(),
                             static_cast<unsigned>(job_.unit), offsets_[slot],
                             static_cast<int>(slot));
    sqe->user_data = 2 * slot;
    in_flight_++;
  }

  void write(uint64_t slot) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_write_fixed(sqe, job_.target, buffers_[slot].data(),
                              static_cast<unsigned>(job_.unit), offsets_[slot],
                              static_cast<int>(slot));
    sqe->user_data = 2 * slot + 1;
    in_flight_++;
  }

  const Job& job_;
  Random random_;
  io_uring ring_ = {};
  std::vector<Buffer> buffers_;
  std::vector<uint64_t> offsets_;
  uint64_t next_ = 0, in_flight_ = 0;
};

int run(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  const int numbers = verb == "copy" ? 4 : 3;  // index of the first number
  if (argc < numbers + 3 || (verb != "copy" && verb != "read" && verb != "write")) {
    fmt::print(stderr, "bench_raw: unknown arguments; the head of raw.cc lists them\n");
    return 1;
  }
  const auto number = [&](int index) { return strtoull(argv[index], nullptr, 10); };
  Job job;
  if (verb != "write") {
    job.source = static_cast<int>(must(open(argv[2], O_RDONLY | O_DIRECT), argv[2]));
  }
  if (verb != "read") {
    const char* path = argv[numbers - 1];
    job.target = static_cast<int>(must(open(path, O_WRONLY | O_DIRECT), path));
  }
  job.depth = number(numbers + 1);
  job.unit = number(numbers + 2);
  job.bytes = number(numbers) / job.unit * job.unit;
  if (argc > numbers + 3) job.seed = number(numbers + 3);
  const int any = job.source >= 0 ? job.source : job.target;
  job.span = static_cast<uint64_t>(must(lseek(any, 0, SEEK_END), "lseek"));
  Pump pump(job);
  const Watch watch;
  pump.run();
  fmt::print("{{\"seconds\": {:.6f}, \"count\": {}, \"bytes\": {}}}\n", watch.seconds(),
             job.bytes / job.unit, job.bytes);
  return 0;
}

}  // namespace
}  // namespace moltfs::bench

int main(int argc, char** argv) {
  return moltfs::bench::run(argc, argv);
}
