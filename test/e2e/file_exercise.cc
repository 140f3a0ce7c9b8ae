// SPDX-License-Identifier: MIT
// The file exerciser: draw an operation, do it, apply it to the model.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "test/e2e/exercise.h"
#include "test/e2e/file_runner.h"

namespace e2e {
namespace {

Models make_models(uint64_t max_size, bool tracking) {
  return {FileModel(max_size, tracking), FileModel(max_size, tracking)};
}

std::string read_whole(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) give_up(kBroken, "open " + path);
  std::string bytes;
  char some[65536];
  for (;;) {
    const ssize_t n = read(fd, some, sizeof some);
    if (n < 0) give_up(kBroken, "read " + path);
    if (n == 0) break;
    bytes.append(some, static_cast<size_t>(n));
  }
  close(fd);
  return bytes;
}

void make_durable(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fsync(fd) != 0) give_up(kBroken, "fsync " + path);
  close(fd);
}

}  // namespace

int exercise_file(const Settings& settings) {
  FileRunner runner(settings);
  Models models = make_models(settings.max_size, false);
  Planner planner(settings.seed, settings.max_size);
  Journal journal(settings.journal);
  Journal::State state;
  state.seed = settings.seed;
  state.max_size = settings.max_size;
  make_durable(settings.path);
  for (int i = 0; i < kFiles; ++i) make_durable(file_path(settings, i));
  journal.put(state);
  while (state.started < settings.operations && may_go_on(settings.seconds)) {
    const Operation op = planner.next(models);
    ++state.started;
    journal.put(state);
    runner.run(op, models);
    apply(op, models);
  }
  for (int i = 0; i < kFiles; ++i) runner.compare(i, models[static_cast<size_t>(i)]);
  printf("exercise file: %lu operations, seed %lu\n", state.started, settings.seed);
  return kRight;
}

int verify_file(const Settings& settings) {
  const Journal::State state = Journal::read(settings.journal);
  Settings of_run = settings;
  of_run.seed = state.seed;
  Models models = make_models(state.max_size, true);
  Planner planner(state.seed, state.max_size);
  for (uint64_t i = 0; i < state.started; ++i) {
    const Operation op = planner.next(models);
    apply(op, models, i + 1 < state.started);
  }
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = file_path(of_run, i);
    const std::string fault = models[static_cast<size_t>(i)].fault_after_crash(read_whole(path));
    if (fault.empty()) continue;
    fprintf(stderr, "exercise: WRONG after a crash: %s, seed %lu, operation %lu: %s\n",
            path.c_str(), state.seed, state.started, fault.c_str());
    return kWrong;
  }
  printf("exercise file: right after %lu operations\n", state.started);
  return kRight;
}

}  // namespace e2e
