// SPDX-License-Identifier: MIT
// A load generator of scripts/bench: works on one file, and prints the time as one JSON object.
//
//   bench_load seqwrite FILE MIB         1 MiB writes to a new file, one fsync
//   bench_load seqread FILE              1 MiB reads, to the end
//   bench_load randread FILE COUNT SEED  4 KiB reads
//   bench_load randwrite FILE COUNT SEED 4 KiB overwrites, one fsync
//   bench_load extents FILE COUNT SEED   4 KiB writes, each 8 KiB after the last; one fsync
//   bench_load fsync4k FILE COUNT SEED   4 KiB overwrites, each with an fsync
//   bench_load busy FILE SECONDS SEED    4 KiB overwrites, fsync after every 32nd; see run_busy()
//   bench_load stream FILE SECONDS MBPS  1 MiB appends at a steady rate; starts over at 64 MiB
//
// FILE may be a block device: with --direct before the verb it is opened with O_DIRECT.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>
#include <thread>

#include "test/bench/measure.h"

namespace moltfs::bench {
namespace {

bool direct = false;
volatile sig_atomic_t stopped = 0;

/// An open file.
class File {
 public:
  File(const char* path, int flags)
      : fd_(static_cast<int>(must(open(path, flags | (direct ? O_DIRECT : 0), 0644), path))) {}
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  uint64_t bytes() const { return static_cast<uint64_t>(must(lseek(fd_, 0, SEEK_END), "lseek")); }
  void write(const char* data, size_t bytes, uint64_t offset) {
    if (must(pwrite(fd_, data, bytes, static_cast<off_t>(offset)), "write") !=
        static_cast<ssize_t>(bytes)) {
      fail("short write");
    }
  }
  size_t read(char* data, size_t bytes, uint64_t offset) {
    return static_cast<size_t>(must(pread(fd_, data, bytes, static_cast<off_t>(offset)), "read"));
  }
  void sync() { must(fsync(fd_), "fsync"); }
  void cut() { must(ftruncate(fd_, 0), "ftruncate"); }

 private:
  int fd_;
};

void report(double seconds, uint64_t count, uint64_t bytes) {
  fmt::print("{{\"seconds\": {:.6f}, \"count\": {}, \"bytes\": {}}}\n", seconds, count, bytes);
}

void run_seqwrite(const char* path, uint64_t mib) {
  Buffer buffer(kMebibyte);
  const Watch watch;
  File file(path, direct ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC);
  for (uint64_t i = 0; i < mib; i++) file.write(buffer.data(), kMebibyte, i * kMebibyte);
  file.sync();
  report(watch.seconds(), mib, mib * kMebibyte);
}

void run_seqread(const char* path) {
  Buffer buffer(kMebibyte);
  const Watch watch;
  File file(path, O_RDONLY);
  uint64_t offset = 0;
  while (const size_t got = file.read(buffer.data(), kMebibyte, offset)) offset += got;
  report(watch.seconds(), offset / kMebibyte, offset);
}

void run_randread(const char* path, uint64_t count, uint64_t seed) {
  Buffer buffer(kBlockBytes);
  File file(path, O_RDONLY);
  const uint64_t blocks = file.bytes() / kBlockBytes;
  Random random(seed);
  const Watch watch;
  for (uint64_t i = 0; i < count; i++) {
    if (file.read(buffer.data(), kBlockBytes, random.below(blocks) * kBlockBytes) != kBlockBytes) {
      fail("short read");
    }
  }
  report(watch.seconds(), count, count * kBlockBytes);
}

/// Overwrites `count` random blocks, with an fsync after every `sync_each`-th and at the end.
void run_randwrite(const char* path, uint64_t count, uint64_t seed, uint64_t sync_each) {
  Buffer buffer(kBlockBytes);
  File file(path, O_RDWR);
  const uint64_t blocks = file.bytes() / kBlockBytes;
  Random random(seed);
  std::vector<double> latencies;
  const Watch watch;
  for (uint64_t i = 0; i < count; i++) {
    const Watch one;
    memcpy(buffer.data(), &i, sizeof i);
    file.write(buffer.data(), kBlockBytes, random.below(blocks) * kBlockBytes);
    if ((i + 1) % sync_each == 0 || i + 1 == count) {
      file.sync();
      latencies.push_back(one.seconds());
    }
  }
  const double seconds = watch.seconds();
  fmt::print(
      "{{\"seconds\": {:.6f}, \"count\": {}, \"bytes\": {}, \"p50_us\": {:.1f}, "
      "\"p99_us\": {:.1f}}}\n",
      seconds, count, count * kBlockBytes, percentile_us(latencies, 0.5),
      percentile_us(latencies, 0.99));
}

/// Overwrites random blocks until SIGTERM or for `limit_seconds`. Prints a line "T US" for each
/// fsync: when it ended, in seconds of CLOCK_MONOTONIC, and how many microseconds it took.
void run_busy(const char* path, double limit_seconds, uint64_t seed) {
  Buffer buffer(kBlockBytes);
  File file(path, O_RDWR);
  const uint64_t blocks = file.bytes() / kBlockBytes;
  Random random(seed);
  std::vector<std::pair<double, double>> syncs;
  const Watch watch;
  for (uint64_t i = 1; !stopped && watch.seconds() < limit_seconds; i++) {
    memcpy(buffer.data(), &i, sizeof i);
    file.write(buffer.data(), kBlockBytes, random.below(blocks) * kBlockBytes);
    if (i % 32 != 0) continue;
    const Watch one;
    file.sync();
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    syncs.emplace_back(std::chrono::duration<double>(now).count(), one.seconds());
  }
  for (const auto& [when, took] : syncs) fmt::print("{:.6f} {:.1f}\n", when, took * 1e6);
}

void run_extents(const char* path, uint64_t count) {
  Buffer buffer(kBlockBytes);
  const Watch watch;
  File file(path, O_RDWR | O_CREAT | O_TRUNC);
  for (uint64_t i = 0; i < count; i++) file.write(buffer.data(), kBlockBytes, 2 * i * kBlockBytes);
  file.sync();
  report(watch.seconds(), count, count * kBlockBytes);
}

void run_stream(const char* path, double limit_seconds, double megabytes_per_second) {
  constexpr uint64_t kMost = 64 * kMebibyte;
  Buffer buffer(kMebibyte);
  File file(path, O_RDWR | O_CREAT | O_TRUNC);
  const Watch watch;
  uint64_t written = 0;
  while (!stopped && watch.seconds() < limit_seconds) {
    if (written > 0 && written % kMost == 0) file.cut();
    file.write(buffer.data(), kMebibyte, written % kMost);
    written += kMebibyte;
    const double due = static_cast<double>(written) / (megabytes_per_second * 1e6);
    const double early = due - watch.seconds();
    if (early > 0) std::this_thread::sleep_for(std::chrono::duration<double>(early));
  }
  report(watch.seconds(), written / kMebibyte, written);
}

int run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--direct") {
    direct = true;
    argc--, argv++;
  }
  const auto number = [&](int index) { return strtoull(argv[index], nullptr, 10); };
  const std::string_view verb = argc > 2 ? argv[1] : "";
  if (verb == "seqread") return run_seqread(argv[2]), 0;
  if (verb == "seqwrite" && argc > 3) return run_seqwrite(argv[2], number(3)), 0;
  if (argc > 4) {
    if (verb == "randread") return run_randread(argv[2], number(3), number(4)), 0;
    if (verb == "randwrite") return run_randwrite(argv[2], number(3), number(4), UINT64_MAX), 0;
    if (verb == "extents") return run_extents(argv[2], number(3)), 0;
    if (verb == "fsync4k") return run_randwrite(argv[2], number(3), number(4), 1), 0;
    const double seconds = strtod(argv[3], nullptr);
    if (verb == "busy") return run_busy(argv[2], seconds, number(4)), 0;
    if (verb == "stream") return run_stream(argv[2], seconds, strtod(argv[4], nullptr)), 0;
  }
  fmt::print(stderr, "bench_load: unknown arguments; the head of load.cc lists them\n");
  return 1;
}

}  // namespace
}  // namespace moltfs::bench

int main(int argc, char** argv) {
  struct sigaction action = {};
  action.sa_handler = [](int) { moltfs::bench::stopped = 1; };
  sigaction(SIGTERM, &action, nullptr);
  return moltfs::bench::run(argc, argv);
}
