// SPDX-License-Identifier: MIT
// The differential tester: the same random calls on moltfs and on a filesystem of the kernel,
// compared one by one: results, errnos, what was read, attributes, which times moved; and the whole
// tree now and then. Run it through scripts/differ, which makes the two mounts.
//
//   differ --ours DIR --theirs DIR --peer ext4|btrfs [--calls N] [--seed S] [--life N]
//          [--timed N] [--keep-going] [--shrink SECONDS] [--tally] [--trace]
//   differ --rules
//
// The calls come in lives of --life calls, each on fresh trees and from a seed of its own (S, S+1,
// ...), so that a finding is replayed by its life's seed alone. A finding is printed with the
// fewest calls that show it. Exit: 0 no unexplained difference, 1 differences, 2 cannot run.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <stdexcept>

#include "test/e2e/differ/life.h"

namespace differ {
namespace {

constexpr size_t kMostShown = 40;

struct Options {
  std::string ours, theirs;
  Peer peer = Peer::ext4;
  uint64_t calls = 10000, seed = 1, life = 400;
  unsigned timed_one_in = 3, shrink_seconds = 60;
  bool keep_going = false, list_rules = false, tally = false, trace = false;
};

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&]() -> std::string {
      if (i + 1 >= count) throw std::invalid_argument(word + " needs a value");
      return words[++i];
    };
    if (word == "--ours") {
      options.ours = value();
    } else if (word == "--theirs") {
      options.theirs = value();
    } else if (word == "--peer") {
      const std::string name = value();
      if (name != "ext4" && name != "btrfs") throw std::invalid_argument("no such peer: " + name);
      options.peer = name == "btrfs" ? Peer::btrfs : Peer::ext4;
    } else if (word == "--calls") {
      options.calls = std::stoull(value());
    } else if (word == "--seed") {
      options.seed = std::stoull(value());
    } else if (word == "--life") {
      options.life = std::max(1ull, std::stoull(value()));
    } else if (word == "--timed") {
      options.timed_one_in = std::max(1u, static_cast<unsigned>(std::stoul(value())));
    } else if (word == "--shrink") {
      options.shrink_seconds = static_cast<unsigned>(std::stoul(value()));
    } else if (word == "--keep-going") {
      options.keep_going = true;
    } else if (word == "--trace") {
      options.trace = true;
    } else if (word == "--tally") {
      options.tally = true;
    } else if (word == "--rules") {
      options.list_rules = true;
    } else {
      throw std::invalid_argument("unknown option " + word);
    }
  }
  if (!options.list_rules && (options.ours.empty() || options.theirs.empty())) {
    throw std::invalid_argument("--ours and --theirs are needed");
  }
  return options;
}

void tell(Lives& lives, const Options& options, uint64_t seed, const std::vector<Call>& calls,
          const Finding& finding) {
  fmt::print("seed {}: call {} differs: {}\n", seed, finding.at + 1, finding.text);
  if (options.shrink_seconds == 0) return;
  const auto fewest = lives.shrink(calls, finding, options.shrink_seconds);
  fmt::print("  the fewest calls that show it:\n");
  const size_t first = fewest.size() > kMostShown ? fewest.size() - kMostShown : 0;
  if (first > 0) fmt::print("    ... {} more\n", first);
  for (size_t i = first; i < fewest.size(); ++i) fmt::print("    {}\n", describe(fewest[i]));
  fflush(stdout);
}

int run(const Options& options) {
  World ours(options.ours), theirs(options.theirs);
  Lives lives(ours, theirs, options.peer, options.trace);
  uint64_t findings = 0, made = 0;
  for (uint64_t seed = options.seed; made < options.calls; ++seed) {
    const uint64_t count = std::min(options.life, options.calls - made);
    const auto calls = roll_life(seed, count, options.timed_one_in);
    const auto finding = lives.run(calls, 100);
    made += finding ? finding->at + 1 : count;
    if (!finding) continue;
    ++findings;
    tell(lives, options, seed, calls, *finding);
    if (!options.keep_going) break;
  }
  fmt::print("{} calls, {} unexplained differences\n", made, findings);
  for (const auto& [rule, times] : lives.explained()) {
    fmt::print("  deliberate: {} ({} times)\n", rule, times);
  }
  for (const auto& [kind, counts] : lives.tally()) {
    if (options.tally) fmt::print("  {}: {} good, {} failed\n", kind, counts.first, counts.second);
  }
  return findings == 0 ? 0 : 1;
}

}  // namespace
}  // namespace differ

int main(int count, char** words) {
  try {
    const auto options = differ::parse(count, words);
    if (options.list_rules) {
      for (const auto& rule : differ::rules()) fmt::print("{}: {}\n", rule.name, rule.reason);
      return 0;
    }
    if (geteuid() != 0) throw std::invalid_argument("must be run as root, to act as other users");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGIO, SIG_IGN);
    return differ::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "differ: {}\n", error.what());
    return 2;
  }
}
