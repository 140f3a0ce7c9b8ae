// SPDX-License-Identifier: MIT
// A load generator of scripts/bench: works on many small files, and prints the time as one JSON
// object.
//
//   bench_small_files create|stat|readdir|read|unlink DIR COUNT DIRECTORIES BYTES [THREADS]
//
// The files are DIR/dNNN/fNNNNNN, in DIRECTORIES directories, BYTES long. create also makes the
// directories, and unlink removes them. Each of THREADS threads works on its share of the
// directories; there must be at least as many directories as threads.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>
#include <thread>

#include "test/bench/measure.h"

namespace moltfs::bench {
namespace {

struct Job {
  std::string verb, root;
  uint64_t files = 0, directories = 1, bytes = 0;
};

std::string directory_of(const Job& job, uint64_t directory) {
  return fmt::format("{}/d{:03}", job.root, directory);
}

void read_whole(const char* path, Buffer& buffer) {
  const int fd = static_cast<int>(must(open(path, O_RDONLY), path));
  while (must(read(fd, buffer.data(), buffer.size()), "read") > 0) {
  }
  close(fd);
}

void create(const char* path, Buffer& buffer, uint64_t bytes) {
  const int fd = static_cast<int>(must(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644), path));
  if (bytes > 0 && must(write(fd, buffer.data(), bytes), "write") != static_cast<ssize_t>(bytes)) {
    fail("short write");
  }
  must(close(fd), "close");
}

uint64_t list(const std::string& path) {
  DIR* stream = opendir(path.c_str());
  if (stream == nullptr) fail(path);
  uint64_t count = 0;
  while (const dirent* entry = readdir(stream)) count += entry->d_name[0] != '.';
  closedir(stream);
  return count;
}

/// Does the job in directories [first, end).
void work(const Job& job, uint64_t first, uint64_t end) {
  Buffer buffer((std::max<uint64_t>(job.bytes, 1) + kMebibyte) & ~(kMebibyte - 1));
  const uint64_t each = job.files / job.directories;
  for (uint64_t directory = first; directory < end; directory++) {
    const std::string path = directory_of(job, directory);
    if (job.verb == "readdir") {
      if (list(path) != each) fail("a listing is incomplete");
      continue;
    }
    if (job.verb == "create") must(mkdir(path.c_str(), 0755), "mkdir");
    for (uint64_t i = 0; i < each; i++) {
      const std::string file = fmt::format("{}/f{:06}", path, i);
      struct stat found;
      if (job.verb == "create") create(file.c_str(), buffer, job.bytes);
      if (job.verb == "stat") must(stat(file.c_str(), &found), "stat");
      if (job.verb == "read") read_whole(file.c_str(), buffer);
      if (job.verb == "unlink") must(unlink(file.c_str()), "unlink");
    }
    if (job.verb == "unlink") must(rmdir(path.c_str()), "rmdir");
  }
}

int run(int argc, char** argv) {
  if (argc < 6) {
    fmt::print(stderr, "bench_small_files: missing arguments; see the head of small_files.cc\n");
    return 1;
  }
  const auto number = [&](int index) { return strtoull(argv[index], nullptr, 10); };
  const Job job{argv[1], argv[2], number(3), number(4), number(5)};
  const uint64_t thread_count = argc > 6 ? number(6) : 1;
  const Watch watch;
  std::vector<std::thread> threads;
  for (uint64_t i = 1; i < thread_count; i++) {
    threads.emplace_back(work, job, job.directories * i / thread_count,
                         job.directories * (i + 1) / thread_count);
  }
  work(job, 0, job.directories / thread_count);
  for (std::thread& thread : threads) thread.join();
  fmt::print("{{\"seconds\": {:.6f}, \"count\": {}, \"bytes\": {}}}\n", watch.seconds(), job.files,
             job.files * job.bytes);
  return 0;
}

}  // namespace
}  // namespace moltfs::bench

int main(int argc, char** argv) {
  return moltfs::bench::run(argc, argv);
}
