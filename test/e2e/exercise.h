// SPDX-License-Identifier: MIT
// Random operations on real files, held against a model in memory: what the two exercisers share.
//
// An exerciser draws its operations from a seed and from its own model alone, never from what the
// filesystem answered: so the same seed gives the same operations on every filesystem, and after a
// crash the model is had again by drawing them once more. All that has to survive the crash is how
// far it was: the journal, a small file on another filesystem.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace e2e {

struct Settings {
  std::string path;     ///< a directory of the filesystem under test
  std::string journal;  ///< may be empty
  uint64_t seed = 1;
  uint64_t operations = ~uint64_t{0};
  double seconds = 1e9;
  uint64_t max_size = 384 * 1024;
  bool drop_caches = false;  ///< through /proc now and then (needs root, concerns the machine)
  bool pollute = false;      ///< store after the end of the file through a mapping
  bool exact_holes = false;  ///< SEEK_DATA finds no block that should be a hole
  bool verbose = false;
};

// Exit codes: kRight; kWrong: the filesystem's fault (told on standard error, with the seed);
// kBroken: usage, or a system call failed that should not; kGone: the filesystem went away.
inline constexpr int kRight = 0, kWrong = 1, kBroken = 2, kGone = 3;

int exercise_file(const Settings& settings);
/// After a crash: what is there must be what some moment since the last fsync allows.
int verify_file(const Settings& settings);
int exercise_tree(const Settings& settings);
/// Any number of processes on the same files.
int exercise_mixed(const Settings& settings);
/// Makes files whose size is set while asynchronous direct writes are on their way.
int exercise_overtaken(const Settings& settings);
int verify_tree(const Settings& settings);

/// How far an exerciser was. Without a path nothing is kept.
class Journal {
 public:
  struct State {
    uint64_t started = 0;  ///< operations that were begun
    uint64_t synced = 0;   ///< operations before the last one that made all durable
    uint64_t seed = 0, max_size = 0;
  };
  explicit Journal(const std::string& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  void put(const State& state);
  static State read(const std::string& path);

 private:
  int fd_ = -1;
};

/// Exits with `code`.
[[noreturn]] void give_up(int code, const std::string& what);
/// Exits with kGone if the filesystem is not there any more: an error then proves nothing.
void give_up_if_gone(const Settings& settings);
/// The same within the next second: a daemon that is being killed may fail a call before the kernel
/// sees its end. For calls that failed, not for wrong content.
void give_up_if_ending(const Settings& settings);
/// True as long as no signal asked to stop and `seconds` have not passed since the first call.
bool may_go_on(double seconds);

}  // namespace e2e
