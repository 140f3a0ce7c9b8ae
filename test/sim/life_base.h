// SPDX-License-Identifier: MIT
// What all kinds of lives share: the world that they live in, and how one begins and ends.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>

#include "fs/mount/mount.h"
#include "test/sim/clients.h"
#include "test/sim/life.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::sim {

class LifeBase {
 public:
  LifeBase(const LifeBase&) = delete;
  LifeBase& operator=(const LifeBase&) = delete;
  virtual ~LifeBase() = default;

  LifeResult run() {
    try {
      scheduler_.run([this] { body(); });
      result_.passed = true;
    } catch (const std::exception& e) {
      result_.failure = e.what();
    }
    add_results();
    result_.operations = clients_.operations();
    result_.trace = scheduler_.trace();
    result_.steps = scheduler_.steps();
    return result_;
  }

 protected:
  /// `shares_load`: see Clients.
  LifeBase(const LifeOptions& options, bool shares_load)
      : options_(options),
        scheduler_(options.seed),
        runtime_(scheduler_),
        devices_(scheduler_),
        clients_(scheduler_, devices_, mount_, options.operation_limit, shares_load) {}

  /// The whole life, as the scheduler's first task. Throws Failure.
  virtual void body() = 0;
  /// Adds to result_ what only this kind of life counts.
  virtual void add_results() {}

  uint64_t random(uint64_t bound) { return scheduler_.random(bound); }
  bool chance(double p) { return scheduler_.chance(p); }

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (!options_.verbose) return;
    fmt::print("{:>12.6f}s  {}\n", static_cast<double>(scheduler_.now().count()) / 1e9,
               fmt::format(format, std::forward<Args>(args)...));
  }

  fs::Mount::Options mount_options() {
    fs::Mount::Options options;
    options.cache_bytes = uint64_t{256 << 10} << (2 * random(4));  // 256 KiB to 16 MiB
    options.commit_interval =
        std::chrono::milliseconds(20 + random(clients_.fsyncs_much && chance(0.7) ? 5000 : 400));
    return options;
  }

  const LifeOptions options_;
  Scheduler scheduler_;
  SimRuntime runtime_;
  SimDevices devices_;
  LifeResult result_;
  std::unique_ptr<fs::Mount> mount_;
  Clients clients_;
  bool after_cut_ = false;
  uint64_t cut_event_ = 0;  ///< of the scheduler: the power will go soon; 0: none
};

/// Lives one life of the kind `Life`.
template <class Life>
LifeResult live_as(const LifeOptions& options) {
  auto life = std::make_unique<Life>(options);
  LifeResult result = life->run();
  // In a world that ended in the middle nothing can be joined or closed any more.
  if (!result.passed) (void)life.release();
  return result;
}

}  // namespace moltfs::sim
