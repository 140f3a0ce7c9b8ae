// SPDX-License-Identifier: MIT
// A log of what a scenario does to its disks, and every set of images that a power cut within it
// can leave behind.
//
// At a cut each disk holds what a flush has covered, and of the writes after that any subset, each
// whole or torn at 512 bytes. For every cut point (before each event, and after the last):
//   none of the unflushed writes, all of them, each single one lost, each single one alone;
// and before each flush and at the end, where the sets of unflushed writes are largest, also:
//   each write torn (first half, second half, random sectors) with the others all there, and with
//   none of them; random subsets, some of their writes torn.
// Unflushed writes of several disks are one set.
#pragma once

#include <functional>
#include <map>
#include <random>
#include <vector>

#include "test/crash/lab.h"

namespace moltfs::crash {

class Recorder {
 public:
  /// Observes the disks of `world` from now on.
  explicit Recorder(World& world);

  /// The filesystem is about to be brought from the state before to another.
  void issue() { issued_.push_back(events_.size()); }
  /// What it now holds, seen while mounted. Belongs to the last issue().
  void reached(DirState state) { states_.push_back(std::move(state)); }
  /// All that was reached is durable.
  void durable() { durable_.emplace_back(events_.size(), states_.size() - 1); }
  /// State 0: before the first issue().
  void begin(DirState state) { states_ = {std::move(state)}; }
  void stop(World& world) { world.devices.set_observer({}); }

  /// Indices of states that may be found after a cut.
  struct Allowed {
    size_t first = 0, last = 0;
  };
  struct Cut {
    size_t event = 0;
    std::string how;    ///< for messages
    uint64_t hash = 0;  ///< of the images
    Allowed allowed;
  };
  using Visitor = std::function<void(const Cut&, const Images&)>;
  /// `start`: the images before the first event. Cuts before event `first` are not visited.
  void each_cut(const Images& start, unsigned random_subsets, const Visitor& visit,
                size_t first = 0) const;
  /// Whether `found` is one of these states, or what a cut between two of them may leave.
  bool allows(const Allowed& range, const DirState& found, std::string* why) const;

  const std::vector<DirState>& states() const { return states_; }
  size_t event_count() const { return events_.size(); }

 private:
  struct Event {
    std::string disk;
    sim::DiskEvent kind;
    uint64_t offset = 0, length = 0;
    std::vector<std::byte> bytes;
    size_t still_unflushed = 0;  ///< kind flush: so many, the latest, it did not cover
  };
  class Replay;
  void observe(const sim::Disk& disk, sim::DiskEvent event, uint64_t offset, ConstBytes bytes);
  Allowed allowed_at(size_t event) const;

  std::vector<Event> events_;
  std::vector<DirState> states_;
  std::vector<size_t> issued_;                      // of state i + 1: at which event
  std::vector<std::pair<size_t, size_t>> durable_;  // from which event on, which state
};

}  // namespace moltfs::crash
