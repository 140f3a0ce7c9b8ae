// SPDX-License-Identifier: MIT
// Every power cut within generated workloads; scripts/crash builds and calls it.
//
// Each job is a process of its own, so that a crash in one workload is reported like any other
// failure. Exit: 0 all passed, 1 one failed (the command that repeats it is printed), 2 usage.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "alloc/base/log.h"
#include "test/crash/generated.h"

namespace {

using namespace moltfs::crash;

struct Arguments {
  unsigned steps = kMaxSteps, jobs = 1;
  uint64_t sample = 0, seed = 1, only = 0, part = 1, parts = 1;
  bool one = false;
};

struct Shared {  // between the jobs
  std::atomic<uint64_t> next, tried, refused, cuts, images;
  std::atomic<bool> failed;
  std::atomic<uint64_t> current[64];
};

/// "K/M" with 1 <= K <= M.
std::string parse_part(const std::string& text, Arguments& arguments) {
  const auto wrong = std::string("must be K/M, the K-th of M parts");
  char slash = 0, more = 0;
  unsigned long part = 0, parts = 0;
  if (sscanf(text.c_str(), "%lu%c%lu%c", &part, &slash, &parts, &more) != 3) return wrong;
  if (slash != '/' || part < 1 || part > parts) return wrong;
  arguments.part = part;
  arguments.parts = parts;
  return "";
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Tries every power cut in generated workloads.", "crash");
  app.add_option("--steps", arguments.steps, "all workloads of up to so many operations")
      ->check(CLI::Range(1u, kMaxSteps))
      ->capture_default_str();
  std::string part;
  app.add_option("--part", part, "K/M: only the K-th of M parts of them")
      ->check([&](const std::string& text) { return parse_part(text, arguments); });
  app.add_option("--sample", arguments.sample, "only so many of them, chosen by --seed");
  app.add_option("--seed", arguments.seed, "of the sample")->capture_default_str();
  CLI::Option* only = app.add_option("--only", arguments.only, "only the workload of this number")
                          ->check(CLI::Range(uint64_t{0}, workload_count() - 1));
  app.add_option("--jobs", arguments.jobs, "processes")
      ->transform(CLI::Bound(1, 64))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit(app.exit(error) == 0 ? 0 : 2);
  }
  arguments.one = only->count() > 0;
  return arguments;
}

/// The numbers of the workloads to try.
std::vector<uint64_t> chosen(const Arguments& arguments) {
  if (arguments.one) return {arguments.only};
  std::vector<uint64_t> numbers;
  std::mt19937_64 random(arguments.seed);
  const uint64_t count = workload_count(arguments.steps);
  if (arguments.sample > 0) {
    for (uint64_t i = 0; i < arguments.sample; ++i) numbers.push_back(random() % count);
  } else {
    for (uint64_t i = arguments.part - 1; i < count; i += arguments.parts) numbers.push_back(i);
  }
  return numbers;
}

void report(uint64_t number, const std::string& failure) {
  fmt::print("workload {} ({}) FAILED: {}\n  again: scripts/crash --only {}\n", number,
             describe(workload(number)), failure, number);
  fflush(stdout);
}

int job(const std::vector<uint64_t>& numbers, Shared& shared, unsigned own) {
  while (!shared.failed) {
    const uint64_t index = shared.next++;
    if (index >= numbers.size()) break;
    const uint64_t number = shared.current[own] = numbers[index];
    const Tried tried = try_workload(workload(number));
    shared.cuts += tried.cuts;
    shared.images += tried.images;
    shared.refused += tried.refused;
    if (++shared.tried % 5000 == 0) {
      fmt::print("{} of {} workloads ...\n", shared.tried.load(), numbers.size());
      fflush(stdout);
    }
    if (tried.failure.empty()) continue;
    shared.failed = true;
    report(number, tried.failure);
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  moltfs::set_log_sink([](moltfs::LogLevel, const std::string&) {});
  const auto numbers = chosen(arguments);
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  auto* shared = new (memory) Shared{};
  const auto start = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  for (unsigned i = 0; i < arguments.jobs; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(job(numbers, *shared, i));
    children.push_back(child);
  }
  bool failed = false;
  for (unsigned i = 0; i < children.size(); ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    failed = failed || status != 0;
    if (!WIFSIGNALED(status)) continue;
    shared->failed = true;
    report(shared->current[i], fmt::format("killed by signal {}", WTERMSIG(status)));
  }
  std::string which;
  if (arguments.sample > 0) which = fmt::format(" (sample by seed {})", arguments.seed);
  if (arguments.parts > 1) which = fmt::format(" (part {}/{})", arguments.part, arguments.parts);
  fmt::print("{} workloads{}, {} of them refused; {} cuts, {} different images in {:.0f} s: {}\n",
             shared->tried.load(), which, shared->refused.load(), shared->cuts.load(),
             shared->images.load(),
             std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
             failed ? "FAILED" : "all passed");
  return failed ? 1 : 0;
}
