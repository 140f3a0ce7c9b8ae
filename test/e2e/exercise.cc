// SPDX-License-Identifier: MIT
// exercise: random operations on real files, held against a model.
//
//   exercise file DIR [options]    two files in DIR, every way to read and change their content
//   exercise tree DIR [options]    a tree of files and directories in DIR
//   exercise mixed DIR [options]   every kind of write on files that other processes change; no
//                                  model
//   exercise overtaken DIR [options]   sets sizes while direct writes are on their way; no model
//   exercise verify-file DIR --journal FILE    after a crash: what was fsynced must be there
//   exercise verify-tree DIR --journal FILE
//
//   --seed S         the same operations again
//   --ops N, --seconds N    when to end (SIGTERM ends it, too)
//   --size BYTES     of the files at most (default 384 KiB)
//   --journal FILE   how far it is, for verify; on another filesystem
//   --drop-caches    through /proc/sys/vm/drop_caches now and then (root; the whole machine)
//   --pollute        stores after the end of the file through a mapping
//   --exact-holes    SEEK_DATA must not find a block that was punched or never written
//   --verbose        prints every operation
//
// Exit: 0 right, 1 wrong (told with the seed on standard error), 2 usage or a failed system call,
// 3 the filesystem went away.
#include "test/e2e/exercise.h"

#include <fcntl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace e2e {
namespace {

volatile sig_atomic_t stop_asked = 0;

[[noreturn]] void usage() {
  fprintf(
      stderr,
      "usage: exercise file|tree|mixed|overtaken|verify-file|verify-tree DIR [--seed S] [--ops N] "
      "[--seconds N]\n       [--size BYTES] [--journal FILE] [--drop-caches] [--pollute] "
      "[--exact-holes] [--verbose]\n");
  exit(kBroken);
}

bool read_switch(Settings& settings, const std::string& option) {
  if (option == "--drop-caches") {
    settings.drop_caches = true;
  } else if (option == "--pollute") {
    settings.pollute = true;
  } else if (option == "--exact-holes") {
    settings.exact_holes = true;
  } else if (option == "--verbose") {
    settings.verbose = true;
  } else {
    return false;
  }
  return true;
}

Settings read_settings(int argc, char** argv) {
  Settings settings;
  settings.path = argv[2];
  for (int i = 3; i < argc; ++i) {
    const std::string option = argv[i];
    if (read_switch(settings, option)) continue;
    if (i + 1 == argc) usage();
    const char* value = argv[++i];
    if (option == "--seed") {
      settings.seed = std::strtoull(value, nullptr, 0);
    } else if (option == "--ops") {
      settings.operations = std::strtoull(value, nullptr, 0);
    } else if (option == "--seconds") {
      settings.seconds = std::strtod(value, nullptr);
    } else if (option == "--size") {
      settings.max_size = std::strtoull(value, nullptr, 0);
    } else if (option == "--journal") {
      settings.journal = value;
    } else {
      usage();
    }
  }
  if (settings.max_size < 65536) usage();
  return settings;
}

}  // namespace

Journal::Journal(const std::string& path) {
  if (path.empty()) return;
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) give_up(kBroken, "journal " + path);
}

Journal::~Journal() {
  if (fd_ >= 0) close(fd_);
}

void Journal::put(const State& state) {
  if (fd_ < 0) return;
  if (pwrite(fd_, &state, sizeof state, 0) != sizeof state) give_up(kBroken, "journal");
}

Journal::State Journal::read(const std::string& path) {
  State state;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || pread(fd, &state, sizeof state, 0) != sizeof state) {
    give_up(kBroken, "journal " + path);
  }
  close(fd);
  return state;
}

void give_up(int code, const std::string& what) {
  fprintf(stderr, "exercise: %s: %s\n", what.c_str(), strerror(errno));
  fflush(nullptr);
  _exit(code);
}

void give_up_if_gone(const Settings& settings) {
  struct statfs state {};
  if (statfs(settings.path.c_str(), &state) == 0) return;
  if (errno == ENOTCONN || errno == ECONNABORTED || errno == ENOENT) give_up(kGone, "gone");
}

void give_up_if_ending(const Settings& settings) {
  for (int tries = 0; tries < 20; ++tries) {
    give_up_if_gone(settings);
    usleep(50'000);
  }
}

bool may_go_on(double seconds) {
  static const auto since = std::chrono::steady_clock::now();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - since;
  return stop_asked == 0 && passed.count() < seconds;
}

}  // namespace e2e

int main(int argc, char** argv) {
  using namespace e2e;
  if (argc < 3) usage();
  const std::string verb = argv[1];
  const Settings settings = read_settings(argc, argv);
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  if (verb == "file") return exercise_file(settings);
  if (verb == "tree") return exercise_tree(settings);
  if (verb == "mixed") return exercise_mixed(settings);
  if (verb == "overtaken") return exercise_overtaken(settings);
  if (settings.journal.empty()) usage();
  if (verb == "verify-file") return verify_file(settings);
  if (verb == "verify-tree") return verify_tree(settings);
  usage();
}
