// SPDX-License-Identifier: MIT
// Generated workloads: see the header.
#include "test/crash/generated.h"

#include <unordered_map>

#include "test/crash/operations.h"
#include "test/crash/recorder.h"

namespace moltfs::crash {

namespace {

constexpr unsigned kRandomSubsets = 4;

/// Workloads of exactly `steps` operations.
uint64_t count_of_length(unsigned steps) {
  const uint64_t choices = small_operations().size();
  return steps == 1 ? choices : count_of_length(steps - 1) * 2 * choices;
}

/// Runs the workload and logs it. False: an operation was refused. Sets where the last one begins.
bool run(World& world, const Workload& workload, Recorder& log, size_t& last_begins) {
  auto mount = open(world, "a");
  auto& filesystem = mount->filesystem();
  log.begin(picture(filesystem));
  bool refused = false;
  for (const Step& step : workload) {
    last_begins = log.event_count();
    log.issue();
    refused = small_operations()[step.operation].act(filesystem).has_error();
    if (refused) break;
    log.reached(picture(filesystem));
    if (!step.sync) continue;
    must(filesystem.sync(), "sync");
    log.durable();
  }
  must(mount->close(), "close");
  if (!refused) log.durable();
  log.stop(world);
  return !refused;
}

}  // namespace

uint64_t workload_count(unsigned steps) {
  uint64_t count = 0;
  for (unsigned n = 1; n <= steps; ++n) count += count_of_length(n);
  return count;
}

Workload workload(uint64_t number) {
  unsigned steps = 1;
  while (number >= count_of_length(steps)) number -= count_of_length(steps++);
  const size_t choices = small_operations().size();
  Workload workload(steps);
  workload.back() = {number % choices, true};
  number /= choices;
  for (unsigned i = steps - 1; i-- > 0;) {
    workload[i] = {number / 2 % choices, number % 2 == 1};
    number /= 2 * choices;
  }
  return workload;
}

std::string describe(const Workload& workload) {
  std::string text;
  for (const Step& step : workload) {
    text += text.empty() ? "" : "; ";
    text += small_operations()[step.operation].name;
    if (step.sync) text += "; sync";
  }
  return text;
}

Tried try_workload(const Workload& workload) {
  Tried tried;
  std::unique_ptr<Recorder> log;
  size_t last_begins = 0;
  tried.failure = in_world(small_prepared(), 7, [&](World& world) {
    log = std::make_unique<Recorder>(world);
    tried.refused = !run(world, workload, *log, last_begins);
  });
  if (tried.refused || !tried.failure.empty()) return tried;

  std::unordered_map<uint64_t, DirState> known;
  auto visit = [&](const Recorder::Cut& cut, const Images& images) {
    ++tried.cuts;
    std::string wrong;
    auto found = known.find(cut.hash);
    if (found == known.end()) {
      DirState state;
      wrong = in_world(images, cut.hash,
                       [&](World& world) { state = recover_alone(world, cut.hash % 4 == 0); });
      if (wrong.empty()) found = known.emplace(cut.hash, std::move(state)).first;
    }
    std::string why;
    if (wrong.empty() && !log->allows(cut.allowed, found->second, &why)) {
      wrong =
          fmt::format("none of the states {}..{}: {}", cut.allowed.first, cut.allowed.last, why);
    }
    if (wrong.empty() || !tried.failure.empty()) return;
    tried.failure =
        fmt::format("event {} of {}, {}: {}", cut.event, log->event_count(), cut.how, wrong);
  };
  log->each_cut(small_prepared(), kRandomSubsets, visit, last_begins);
  tried.images = known.size();
  return tried;
}

}  // namespace moltfs::crash
