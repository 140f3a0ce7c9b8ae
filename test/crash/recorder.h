// SPDX-License-Identifier: MIT
// A log of what a scenario does to its disks, and the images that a power cut in it can leave.
//
// At a cut, each disk holds what a flush has covered and any subset of the writes after that, each
// whole or torn at 512 bytes. These subsets are tried at every cut point (before each event, and
// after the last):
//   none of the unflushed writes, all of them, all but one (each), only one (each);
// and before each flush and at the end, where the sets of unflushed writes are largest, also:
//   each write torn (first half, second half, random sectors), with all or none of the others;
//   random subsets, some of their writes torn.
// The unflushed writes of several disks are one set.
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

  /// The next operation on the filesystem is about to begin.
  void issue() { issued_.push_back(events_.size()); }
  /// What the filesystem holds after it, seen while mounted. Belongs to the last issue().
  void reached(DirState state) { states_.push_back(std::move(state)); }
  /// Everything up to here is durable.
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
  /// True if `found` is one of these states, or what a cut between two of them may leave.
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
