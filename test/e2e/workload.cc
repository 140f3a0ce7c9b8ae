// SPDX-License-Identifier: MIT
// The load for the end-to-end tests and the demo. Writes files whose bytes follow from the number of
// the file and the position, and checks them while it runs and afterwards.
//
//   workload run MODE DIR JOURNAL [--seconds N] [--seed S] [--fsync-every N]
//   workload verify MODE DIR JOURNAL [--after-crash]
//
// MODE: append      a few growing files
//       overwrite   blocks of fixed files at random, read back at random
//       churn       creates, renames and deletes small files
//
// The journal is outside the filesystem under test. A line is written before the operation that it
// describes, and a line "C" after an fsync of everything before it. After a clean end the files must
// be exactly what the journal says. After a crash everything up to the last C must be there; each
// block that was changed later may be old or new.
//
// Exit: 0 right, 1 wrong bytes (reported on standard error), 2 usage or an error of a system call.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr size_t kBlock = 4096;
constexpr int kAppendFiles = 4;
constexpr int kOverwriteFiles = 4;
constexpr uint64_t kOverwriteBlocks = 2048;  // 8 MiB each

std::atomic<bool> stop_asked{false};

[[noreturn]] void fail(const std::string& what) {
  fprintf(stderr, "workload: %s: %s\n", what.c_str(), strerror(errno));
  exit(2);
}

int wrong_count = 0;
void wrong(const std::string& what) {
  if (++wrong_count <= 20) fprintf(stderr, "workload: WRONG: %s\n", what.c_str());
}

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Eight bytes of a file's endless content, at byte offset 8 * `word`.
uint64_t word_at(uint64_t file, uint64_t word) {
  return mix(mix(file) ^ word);
}

std::string stream(uint64_t file, uint64_t offset, size_t length) {
  std::string bytes(length, '\0');
  for (size_t i = 0; i < length; ++i) {
    const uint64_t at = offset + i;
    bytes[i] = static_cast<char>(word_at(file, at / 8) >> (at % 8 * 8));
  }
  return bytes;
}

/// A block with its file, its number and its version written into it.
std::string stamped_block(uint64_t file, uint64_t block, uint64_t version) {
  std::string bytes(kBlock, '\0');
  auto* words = reinterpret_cast<uint64_t*>(bytes.data());
  words[0] = file;
  words[1] = block;
  words[2] = version;
  for (size_t i = 3; i < kBlock / 8; ++i)
    words[i] = mix(mix(file * 31 + block) ^ (version << 9) ^ i);
  return bytes;
}

void write_all(int fd, const std::string& bytes, uint64_t offset, const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("write " + path);
    done += static_cast<size_t>(n);
  }
}

std::string read_some(int fd, uint64_t offset, size_t length, const std::string& path) {
  std::string bytes(length, '\0');
  size_t done = 0;
  while (done < length) {
    const ssize_t n =
        pread(fd, bytes.data() + done, length - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read " + path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

class Fd {
 public:
  Fd(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (fd_ < 0) fail("open " + path);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

void fsync_path(const std::string& path) {
  const Fd fd(path, O_RDONLY);
  if (fsync(fd.get()) != 0) fail("fsync " + path);
}

struct Settings {
  std::string mode, dir, journal;
  double seconds = 1e9;
  uint64_t seed = 1;
  uint64_t fsync_every = 200;
  bool after_crash = false;
};

class Journal {
 public:
  explicit Journal(const std::string& path) : file_(fopen(path.c_str(), "w")) {
    if (file_ == nullptr) fail("journal " + path);
    setvbuf(file_, nullptr, _IOLBF, 1 << 16);
  }
  ~Journal() { fclose(file_); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  void line(const std::string& text) {
    if (fprintf(file_, "%s\n", text.c_str()) < 0) fail("journal");
  }

 private:
  FILE* file_;
};

bool running(const Settings& settings, std::chrono::steady_clock::time_point since) {
  return !stop_asked &&
         std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count() <
             settings.seconds;
}

std::string numbered(const std::string& dir, const char* stem, uint64_t n) {
  return dir + "/" + stem + std::to_string(n);
}

uint64_t run_append(const Settings& settings) {
  std::mt19937_64 random(settings.seed);
  Journal journal(settings.journal);
  std::vector<Fd> files;
  std::vector<uint64_t> sizes(kAppendFiles, 0);
  for (int i = 0; i < kAppendFiles; ++i) {
    files.emplace_back(numbered(settings.dir, "grow", i), O_RDWR | O_CREAT | O_TRUNC);
  }
  fsync_path(settings.dir);
  uint64_t operations = 0;
  const auto since = std::chrono::steady_clock::now();
  while (running(settings, since)) {
    const size_t i = random() % kAppendFiles;
    const size_t length = 1 + random() % (random() % 8 == 0 ? 300000 : 9000);
    if (sizes[i] > 64 << 20) {  // start over: the load must not fill the volume
      journal.line("A " + std::to_string(i) + " 0");
      if (ftruncate(files[i].get(), 0) != 0) fail("ftruncate");
      sizes[i] = 0;
    }
    journal.line("A " + std::to_string(i) + " " + std::to_string(sizes[i] + length));
    write_all(files[i].get(), stream(i + 1, sizes[i], length), sizes[i], "grow");
    sizes[i] += length;
    if (++operations % settings.fsync_every == 0) {
      for (const auto& file : files) {
        if (fsync(file.get()) != 0) fail("fsync");
      }
      journal.line("C");
    }
  }
  return operations;
}

void verify_append(const Settings& settings) {
  std::ifstream journal(settings.journal);
  std::vector<uint64_t> low(kAppendFiles, 0), high(kAppendFiles, 0), now(kAppendFiles, 0);
  std::string line;
  while (std::getline(journal, line)) {
    if (line == "C") {
      low = now;
      high = now;
      continue;
    }
    char kind = 0;
    size_t i = 0;
    uint64_t size = 0;
    if (std::sscanf(line.c_str(), "%c %zu %lu", &kind, &i, &size) != 3 || i >= kAppendFiles)
      continue;
    now[i] = size;
    low[i] = std::min(low[i], size);
    high[i] = std::max(high[i], size);
  }
  for (int i = 0; i < kAppendFiles; ++i) {
    const std::string path = numbered(settings.dir, "grow", i);
    const Fd fd(path, O_RDONLY);
    struct stat st {};
    if (fstat(fd.get(), &st) != 0) fail("stat " + path);
    const auto size = static_cast<uint64_t>(st.st_size);
    const uint64_t least = settings.after_crash ? low[i] : now[i];
    const uint64_t most = settings.after_crash ? high[i] : now[i];
    if (size < least || size > most) {
      wrong(path + ": size " + std::to_string(size) + ", expected " + std::to_string(least) +
            " to " + std::to_string(most));
    }
    // After a crash the size may be durable without the data that was not fsynced: only the part
    // below `low` must be right.
    const uint64_t sure = settings.after_crash ? std::min(size, low[i]) : size;
    for (uint64_t at = 0; at < sure; at += 1 << 20) {
      const size_t length = std::min<uint64_t>(1 << 20, sure - at);
      if (read_some(fd.get(), at, length, path) != stream(i + 1, at, length)) {
        wrong(path + ": bytes in the MiB at " + std::to_string(at));
      }
    }
  }
}

uint64_t run_overwrite(const Settings& settings) {
  std::mt19937_64 random(settings.seed);
  Journal journal(settings.journal);
  std::vector<Fd> files;
  std::vector<std::vector<uint64_t>> versions(kOverwriteFiles,
                                              std::vector<uint64_t>(kOverwriteBlocks, 0));
  for (int i = 0; i < kOverwriteFiles; ++i) {
    const std::string path = numbered(settings.dir, "fixed", i);
    files.emplace_back(path, O_RDWR | O_CREAT | O_TRUNC);
    for (uint64_t block = 0; block < kOverwriteBlocks; block += 64) {
      std::string bytes;
      for (uint64_t k = block; k < block + 64; ++k) bytes += stamped_block(i, k, 0);
      write_all(files[i].get(), bytes, block * kBlock, path);
    }
    if (fsync(files[i].get()) != 0) fail("fsync");
  }
  fsync_path(settings.dir);
  journal.line("C");
  uint64_t operations = 0;
  const auto since = std::chrono::steady_clock::now();
  while (running(settings, since)) {
    const size_t i = random() % kOverwriteFiles;
    const uint64_t count = 1 + random() % 4;
    const uint64_t first = random() % (kOverwriteBlocks - count);
    std::string bytes;
    for (uint64_t k = first; k < first + count; ++k) {
      const uint64_t version = ++versions[i][k];
      journal.line("B " + std::to_string(i) + " " + std::to_string(k) + " " +
                   std::to_string(version));
      bytes += stamped_block(i, k, version);
    }
    write_all(files[i].get(), bytes, first * kBlock, "fixed");
    const uint64_t look = random() % kOverwriteBlocks;
    if (read_some(files[i].get(), look * kBlock, kBlock, "fixed") !=
        stamped_block(i, look, versions[i][look])) {
      wrong("fixed" + std::to_string(i) + " block " + std::to_string(look) + " while running");
    }
    if (++operations % settings.fsync_every == 0) {
      for (const auto& file : files) {
        if (fsync(file.get()) != 0) fail("fsync");
      }
      journal.line("C");
    }
  }
  return operations;
}

void verify_overwrite(const Settings& settings) {
  std::ifstream journal(settings.journal);
  using Versions = std::vector<std::vector<uint64_t>>;
  const std::vector<uint64_t> zeros(kOverwriteBlocks, 0);
  Versions now(kOverwriteFiles, zeros), durable = now;
  std::vector<std::pair<size_t, uint64_t>> since;
  std::string line;
  while (std::getline(journal, line)) {
    if (line == "C") {
      for (const auto& [i, k] : since) durable[i][k] = now[i][k];
      since.clear();
      continue;
    }
    char kind = 0;
    size_t i = 0;
    uint64_t k = 0, version = 0;
    if (std::sscanf(line.c_str(), "%c %zu %lu %lu", &kind, &i, &k, &version) != 4 ||
        i >= kOverwriteFiles || k >= kOverwriteBlocks) {
      continue;
    }
    now[i][k] = version;
    since.emplace_back(i, k);
  }
  for (int i = 0; i < kOverwriteFiles; ++i) {
    const std::string path = numbered(settings.dir, "fixed", i);
    const Fd fd(path, O_RDONLY);
    for (uint64_t k = 0; k < kOverwriteBlocks; ++k) {
      const std::string bytes = read_some(fd.get(), k * kBlock, kBlock, path);
      uint64_t version = ~uint64_t{0};
      if (bytes.size() == kBlock) memcpy(&version, bytes.data() + 16, 8);
      const uint64_t least = settings.after_crash ? durable[i][k] : now[i][k];
      if (version < least || version > now[i][k] || bytes != stamped_block(i, k, version)) {
        wrong(path + " block " + std::to_string(k) + ": version " + std::to_string(version) +
              ", expected " + std::to_string(least) + " to " + std::to_string(now[i][k]));
      }
    }
  }
}

uint64_t churn_length(uint64_t id) {
  return mix(id) % (mix(id + 1) % 8 == 0 ? 200000 : 6000);
}

uint64_t run_churn(const Settings& settings) {
  std::mt19937_64 random(settings.seed);
  Journal journal(settings.journal);
  std::map<std::string, uint64_t> files;  // name -> id
  std::vector<std::string> names;
  std::set<std::string> unsynced;
  uint64_t next_id = settings.seed << 32, operations = 0;
  auto pick = [&] { return names[random() % names.size()]; };
  auto drop = [&](const std::string& name) {
    files.erase(name);
    unsynced.erase(name);
    names.erase(std::find(names.begin(), names.end(), name));
  };
  const auto since = std::chrono::steady_clock::now();
  while (running(settings, since)) {
    const uint64_t dice = random() % 10;
    if (files.size() < 20 || (dice < 5 && files.size() < 600)) {
      const uint64_t id = next_id++;
      const std::string name = "f" + std::to_string(id);
      journal.line("N " + name + " " + std::to_string(id));
      const Fd fd(settings.dir + "/" + name, O_RDWR | O_CREAT | O_EXCL);
      write_all(fd.get(), stream(id, 0, churn_length(id)), 0, name);
      files[name] = id;
      names.push_back(name);
      unsynced.insert(name);
    } else if (dice < 8) {
      const std::string name = pick();
      journal.line("D " + name + " 0");
      if (unlink((settings.dir + "/" + name).c_str()) != 0) fail("unlink " + name);
      drop(name);
    } else {
      const std::string from = pick(), to = "r" + std::to_string(next_id++);
      journal.line("R " + from + " " + to);
      if (rename((settings.dir + "/" + from).c_str(), (settings.dir + "/" + to).c_str()) != 0) {
        fail("rename " + from);
      }
      const uint64_t id = files[from];
      const bool is_unsynced = unsynced.count(from) != 0;
      drop(from);
      files[to] = id;
      names.push_back(to);
      if (is_unsynced) unsynced.insert(to);
    }
    if (++operations % settings.fsync_every == 0) {
      for (const auto& name : unsynced) fsync_path(settings.dir + "/" + name);
      unsynced.clear();
      fsync_path(settings.dir);
      journal.line("C");
    }
  }
  return operations;
}

void verify_churn(const Settings& settings) {
  std::ifstream journal(settings.journal);
  std::map<std::string, uint64_t> now;
  std::set<std::string> touched;  // since the last C
  std::string line;
  while (std::getline(journal, line)) {
    if (line == "C") {
      touched.clear();
      continue;
    }
    std::istringstream words(line);
    std::string kind, name, other;
    if (!(words >> kind >> name >> other)) continue;
    touched.insert(name);
    if (kind == "N") now[name] = std::stoull(other);
    if (kind == "D") now.erase(name);
    if (kind == "R") {
      touched.insert(other);
      now[other] = now[name];
      now.erase(name);
    }
  }
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(settings.dir)) {
    seen.insert(entry.path().filename().string());
  }
  for (const auto& [name, id] : now) {
    if (settings.after_crash && touched.count(name) != 0) continue;
    const std::string path = settings.dir + "/" + name;
    if (seen.count(name) == 0) {
      wrong(path + " is missing");
      continue;
    }
    const Fd fd(path, O_RDONLY);
    if (read_some(fd.get(), 0, churn_length(id) + 1, path) != stream(id, 0, churn_length(id))) {
      wrong(path + ": content");
    }
  }
  for (const auto& name : seen) {
    if (now.count(name) == 0 && !(settings.after_crash && touched.count(name) != 0)) {
      wrong(settings.dir + "/" + name + " should not be there");
    }
  }
}

[[noreturn]] void usage() {
  fprintf(stderr,
          "usage: workload run append|overwrite|churn DIR JOURNAL [--seconds N] [--seed S] "
          "[--fsync-every N]\n"
          "       workload verify append|overwrite|churn DIR JOURNAL [--after-crash]\n");
  exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) usage();
  const std::string verb = argv[1];
  Settings settings;
  settings.mode = argv[2];
  settings.dir = argv[3];
  settings.journal = argv[4];
  for (int i = 5; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--after-crash") {
      settings.after_crash = true;
    } else if (i + 1 < argc && option == "--seconds") {
      settings.seconds = std::stod(argv[++i]);
    } else if (i + 1 < argc && option == "--seed") {
      settings.seed = std::stoull(argv[++i]);
    } else if (i + 1 < argc && option == "--fsync-every") {
      settings.fsync_every = std::max(1ull, std::stoull(argv[++i]));
    } else {
      usage();
    }
  }
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = true; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);

  if (verb == "run") {
    uint64_t operations = 0;
    if (settings.mode == "append")
      operations = run_append(settings);
    else if (settings.mode == "overwrite")
      operations = run_overwrite(settings);
    else if (settings.mode == "churn")
      operations = run_churn(settings);
    else
      usage();
    printf("%s: %lu operations\n", settings.mode.c_str(), operations);
  } else if (verb == "verify") {
    if (settings.mode == "append")
      verify_append(settings);
    else if (settings.mode == "overwrite")
      verify_overwrite(settings);
    else if (settings.mode == "churn")
      verify_churn(settings);
    else
      usage();
  } else {
    usage();
  }
  if (wrong_count > 0) fprintf(stderr, "workload: %d wrong\n", wrong_count);
  return wrong_count == 0 ? 0 : 1;
}
