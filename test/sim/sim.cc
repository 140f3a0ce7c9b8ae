// SPDX-License-Identifier: MIT
// The simulator's command line; scripts/sim builds and calls it.
//
// Each job is a process of its own, so that a crash of one life is reported like any other failure.
// Exit: 0 all lives passed, 1 one failed (the command that replays it is printed), 2 usage.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "alloc/base/log.h"
#include "test/sim/historical_rule.h"
#include "test/sim/life.h"
#include "test/sim/pool_life.h"

namespace {

using moltfs::sim::LifeOptions;
using moltfs::sim::LifeResult;

struct Shared {  // between the jobs
  std::atomic<uint64_t> next_seed, lives, steps, operations, replaces, cuts, suspensions, cancels,
      rotten, faults, returns, degraded_mounts;
  std::atomic<bool> failed;
  std::atomic<uint64_t> current[64];
};

struct Arguments {
  uint64_t seeds = 200, first = 1, seed = 0, limit = ~uint64_t{0};
  double minutes = 0;
  unsigned jobs = 2;
  bool one = false, verbose = false, cursor_rule = false, expect_failure = false, pool = false;
  std::string program;  ///< what to type for another life
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  // A mutant has a program of its own.
  arguments.program = std::string(argv[0]).ends_with("/sim") ? "scripts/sim" : argv[0];
  CLI::App app("Runs simulated lives of a volume, each from a seed.", "sim");
  app.add_option("--seeds", arguments.seeds, "how many lives")->capture_default_str();
  app.add_option("--first", arguments.first, "seed of the first life")->capture_default_str();
  app.add_option("--minutes", arguments.minutes, "as many lives as fit, instead of --seeds")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--jobs", arguments.jobs, "processes")
      ->transform(CLI::Bound(1, 64))
      ->capture_default_str();
  CLI::Option* seed = app.add_option("--seed", arguments.seed, "run this life only");
  app.add_flag("--verbose", arguments.verbose, "print what happens in the life");
  app.add_option("--limit", arguments.limit, "end each life after so many operations");
  std::string rule;
  app.add_option("--rule", rule, "cursor: duplicate by the historical rule, which loses data")
      ->check(CLI::IsMember({"cursor"}));
  app.add_flag("--pool", arguments.pool, "lives of several devices that fail and come back");
  app.add_flag("--expect-failure", arguments.expect_failure, "exit with 0 if a life fails, else 1");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit(app.exit(error) == 0 ? 0 : 2);
  }
  arguments.one = seed->count() > 0;
  arguments.cursor_rule = !rule.empty();
  return arguments;
}

LifeOptions options_for(const Arguments& arguments, uint64_t seed) {
  LifeOptions options;
  options.seed = seed;
  options.operation_limit = arguments.limit;
  options.verbose = arguments.verbose;
  if (arguments.cursor_rule) {
    options.rule = [](std::function<uint64_t()> cursor) {
      return std::make_shared<const moltfs::sim::DuplicateLeftOfCursor>(std::move(cursor));
    };
  }
  return options;
}

LifeResult live(const Arguments& arguments, const LifeOptions& options) {
  return arguments.pool ? moltfs::sim::live_in_pool(options) : moltfs::sim::live(options);
}

uint64_t shrink(const Arguments& arguments, const LifeOptions& options) {
  return moltfs::sim::shrink(options,
                             arguments.pool ? moltfs::sim::live_in_pool : moltfs::sim::live);
}

void report(const Arguments& arguments, uint64_t seed, const std::string& failure, uint64_t limit) {
  fmt::print("seed {} FAILED: {}\n  replay: {}{}{} --seed {}{} --verbose\n", seed, failure,
             arguments.program, arguments.pool ? " --pool" : "",
             arguments.cursor_rule ? " --rule cursor" : "", seed,
             limit == ~uint64_t{0} ? std::string() : fmt::format(" --limit {}", limit));
  fflush(stdout);
}

int one_life(const Arguments& arguments) {
  const LifeOptions options = options_for(arguments, arguments.seed);
  const LifeResult result = live(arguments, options);
  fmt::print("seed {}: {}, {} operations, {} steps, {} replaces, {} cuts, trace {:016x}\n",
             options.seed, result.passed ? "passed" : "FAILED", result.operations, result.steps,
             result.replaces_finished, result.power_cuts, result.trace);
  if (result.passed) return arguments.expect_failure ? 1 : 0;
  uint64_t limit = arguments.limit;
  if (!arguments.verbose && limit == ~uint64_t{0}) limit = shrink(arguments, options);
  report(arguments, options.seed, result.failure, limit);
  return arguments.expect_failure ? 0 : 1;
}

int job(const Arguments& arguments, Shared& shared, unsigned number,
        std::chrono::steady_clock::time_point deadline) {
  const uint64_t end = arguments.first + arguments.seeds;
  while (!shared.failed) {
    if (arguments.minutes > 0) {
      if (std::chrono::steady_clock::now() >= deadline) break;
    } else if (shared.next_seed >= end) {
      break;
    }
    const LifeOptions options = options_for(arguments, shared.next_seed++);
    if (arguments.minutes <= 0 && options.seed >= end) break;
    shared.current[number] = options.seed;
    const LifeResult result = live(arguments, options);
    ++shared.lives;
    shared.steps += result.steps;
    shared.operations += result.operations;
    shared.replaces += result.replaces_finished;
    shared.cuts += result.power_cuts;
    shared.suspensions += result.suspensions;
    shared.cancels += result.cancels;
    shared.rotten += result.rotten;
    shared.faults += result.faults;
    shared.returns += result.returns;
    shared.degraded_mounts += result.degraded_mounts;
    if (result.passed) continue;
    shared.failed = true;
    const bool enough = arguments.expect_failure;
    report(arguments, options.seed, result.failure,
           enough ? options.operation_limit : shrink(arguments, options));
    _exit(1);
  }
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  if (!arguments.verbose) moltfs::set_log_sink([](moltfs::LogLevel, const std::string&) {});
  if (arguments.one) return one_life(arguments);

  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  auto* shared = new (memory) Shared{};
  shared->next_seed = arguments.first;
  const auto start = std::chrono::steady_clock::now();
  const auto deadline =
      start + std::chrono::milliseconds(static_cast<int64_t>(arguments.minutes * 60000));
  std::vector<pid_t> children;
  for (unsigned i = 0; i < arguments.jobs; ++i) {
    const pid_t child = fork();
    if (child == 0) job(arguments, *shared, i, deadline);
    children.push_back(child);
  }
  bool failed = false;
  for (unsigned i = 0; i < children.size(); ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    if (status == 0) continue;
    failed = true;
    if (WIFSIGNALED(status)) {
      ++shared->lives;
      shared->failed = true;
      report(arguments, shared->current[i], fmt::format("killed by signal {}", WTERMSIG(status)),
             ~uint64_t{0});
    }
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::string happened =
      arguments.pool
          ? fmt::format("{} devices began to fail, {} came back, {} degraded mounts",
                        shared->faults.load(), shared->returns.load(),
                        shared->degraded_mounts.load())
          : fmt::format("{} replaces finished, {} suspensions, {} cancels, {} blocks rotten",
                        shared->replaces.load(), shared->suspensions.load(), shared->cancels.load(),
                        shared->rotten.load());
  fmt::print(
      "{} lives from seed {} in {:.1f} s ({:.0f} a minute): {} steps, {} operations, {} power "
      "cuts, {}: {}\n",
      shared->lives.load(), arguments.first, seconds,
      static_cast<double>(shared->lives) * 60 / seconds, shared->steps.load(),
      shared->operations.load(), shared->cuts.load(), happened, failed ? "FAILED" : "all passed");
  if (!arguments.expect_failure) return failed ? 1 : 0;
  fmt::print("{} after {} lives, {} steps\n", failed ? "found" : "NOT FOUND", shared->lives.load(),
             shared->steps.load());
  return failed ? 0 : 1;
}
