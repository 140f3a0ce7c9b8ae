// SPDX-License-Identifier: MIT
// The driver: runs inputs of one target, each from a seed.
//
//   fuzz TARGET [--first SEED] [--count N] [--minutes M] [--corpus FOLDER] [--stop-after SECONDS]
//
// A fault is printed with the seed and ends the program with status 1 (an assert or a sanitizer:
// with its own status).
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "alloc/base/log.h"
#include "alloc/base/sanitizer.h"
#include "test/fuzz/base_images.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {
namespace {

/// No input takes more CPU time (a loop), or more time (a deadlock, also on a busy machine).
constexpr unsigned kCpuSecondsForOne = 30;
constexpr unsigned kSecondsForOne = 600;

std::string_view target_name = "?";
std::atomic<uint64_t> seed_now{0};
uint64_t first_seed = 0;  // of what a failing input depends on

/// How to repeat the input that fails.
void tell_seed() {
  const uint64_t seed = seed_now, first = first_seed != 0 ? first_seed : seed;
  char line[200];
  const int length = snprintf(
      line, sizeof line, "fuzz: to repeat: fuzz %.*s --first %llu --count %llu\n",
      static_cast<int>(target_name.size()), target_name.data(),
      static_cast<unsigned long long>(first), static_cast<unsigned long long>(seed - first + 1));
  if (::write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) return;
}

void on_signal(int number) {
  const bool late = number == SIGALRM || number == SIGPROF;
  if (late) {
    constexpr std::string_view kText = "fuzz: the input takes too long\n";
    if (::write(STDERR_FILENO, kText.data(), kText.size()) < 0) return;
  }
  tell_seed();
  ::signal(SIGABRT, SIG_DFL);
  if (late) ::abort();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

struct Arguments {
  const Target* target = nullptr;
  uint64_t first = 1;
  std::optional<uint64_t> count;
  std::optional<double> seconds;
};

[[noreturn]] void usage() {
  fmt::print(stderr,
             "usage: fuzz TARGET [--first SEED] [--count N] [--minutes M | --seconds S] "
             "[--corpus FOLDER]\n");
  for (const Target& target : targets())
    fmt::print(stderr, "  {:<10}{}\n", target.name, target.about);
  std::exit(2);
}

double number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) usage();
  return value;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with("--")) {
      for (const Target& target : targets()) {
        if (target.name == word) arguments.target = &target;
      }
      if (arguments.target == nullptr) usage();
      continue;
    }
    if (++i == argc) usage();
    const std::string_view value = argv[i];
    if (word == "--corpus") {
      set_corpus_folder(std::string(value));
    } else if (word == "--first") {
      const auto parsed =
          std::from_chars(value.data(), value.data() + value.size(), arguments.first);
      if (parsed.ec != std::errc()) usage();
    } else if (word == "--count") {
      arguments.count = static_cast<uint64_t>(number_of(value));
    } else if (word == "--minutes") {
      arguments.seconds = 60 * number_of(value);
    } else if (word == "--seconds") {
      arguments.seconds = number_of(value);
    } else {
      usage();
    }
  }
  if (arguments.target == nullptr) usage();
  if (!arguments.count && !arguments.seconds) arguments.count = 1000;
  return arguments;
}

/// From now on; 0: no limit.
void limit_time(unsigned seconds, unsigned cpu_seconds) {
  ::alarm(seconds);
  itimerval timer{};
  timer.it_value.tv_sec = cpu_seconds;
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

/// Ends at the count or at the time, whichever comes first.
void run(const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  (void)base_images();
  const auto begun = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - begun).count(); };
  if (arguments.target->keeps_state) first_seed = arguments.first;
  uint64_t done = 0;
  for (; !arguments.count || done < *arguments.count; ++done) {
    const bool look = arguments.target->is_slow || done % 256 == 0;
    if (look) {
      if (arguments.seconds && passed() > *arguments.seconds) break;
      limit_time(kSecondsForOne, kCpuSecondsForOne);
    }
    seed_now = arguments.first + done;
    Choices choices(seed_now);
    arguments.target->run(choices);
  }
  limit_time(0, 0);
  fmt::print(
      "fuzz: {}: {} inputs from seed {} in {:.1f} s ({:.0f} per second), {} accepted, no fault\n",
      arguments.target->name, done, arguments.first, passed(),
      static_cast<double>(done) / std::max(passed(), 0.001), accepted_inputs);
}

}  // namespace

void fail(const std::string& what) {
  fmt::print(stderr, "fuzz: {}\n", what);
  std::fflush(stderr);
  ::abort();
}

std::span<const Target> targets() {
  static constexpr Target kTargets[] = {
      {"decode", fuzz_decode, "single structures of the format", false, false},
      {"volume", fuzz_volume, "check, dump, mount and change a volume", true, false},
      {"request", fuzz_request, "requests of the kernel", false, true},
      {"control", fuzz_control, "texts for the control interface", false, true},
      {"text", fuzz_text, "mount options, /proc files, other texts", false, false},
  };
  return kTargets;
}

}  // namespace moltfs::fuzz

int main(int argc, char** argv) {
  using namespace moltfs;
  const auto arguments = fuzz::parse(argc, argv);
  fuzz::target_name = arguments.target->name;
  if (getenv("MOLTFS_FUZZ_LOG") == nullptr) set_log_sink([](LogLevel, const std::string&) {});
  // Sanitizers have handlers of their own; they end with an abort, too (scripts/fuzz).
  for (const int number : {SIGABRT, SIGALRM, SIGPROF}) ::signal(number, fuzz::on_signal);
  if (::signal(SIGSEGV, SIG_DFL) == SIG_DFL) ::signal(SIGSEGV, fuzz::on_signal);
  // Stays with the process: inputs take and free megabytes.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
  // The other targets have threads, each with address space of its own.
  const uint64_t most = arguments.target->is_slow ? uint64_t{1} << 30 : uint64_t{4} << 30;
  const rlimit limit{most, most};
  // An allocation by a claimed length fails. (AddressSanitizer reserves more, and has its own limit.)
  if (!kAddressSanitizer) ::setrlimit(RLIMIT_AS, &limit);
  fuzz::run(arguments);
  return 0;
}
