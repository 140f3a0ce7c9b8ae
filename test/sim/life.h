// SPDX-License-Identifier: MIT
// One life of a volume under the seeded scheduler. The volume is made, and several clients fill and
// change it. Its device is replaced (started, cancelled, suspended by a failing target, resumed).
// The power is cut, the volume is mounted again. At the end it has moved to a target, which must
// hold everything without the source.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "alloc/space/map.h"

namespace moltfs::sim {

struct LifeOptions {
  uint64_t seed = 1;
  /// At most so many operations of all clients together; for shrinking a failure.
  uint64_t operation_limit = ~uint64_t{0};
  bool verbose = false;
  bool power_cuts = true;
  bool target_faults = true;
  bool rot = true;  ///< in some lives the device rots
  /// The mapper uses this rule instead of the product's; tests of the historical bug set it. Called
  /// with the cursor of the running replace.
  std::function<std::shared_ptr<const alloc::DuplicationRule>(std::function<uint64_t()> cursor)>
      rule;
};

struct LifeResult {
  bool passed = false;
  std::string failure;  ///< what went wrong, where
  uint64_t trace = 0;   ///< hash of everything that happened
  uint64_t steps = 0;
  uint64_t operations = 0;
  uint64_t replaces_finished = 0;
  uint64_t power_cuts = 0;
  uint64_t suspensions = 0;
  uint64_t cancels = 0;
  uint64_t rotten = 0;  ///< blocks and nodes that rotted
  // Of lives in a pool:
  uint64_t faults = 0;           ///< devices that began to fail
  uint64_t returns = 0;          ///< devices that came back
  uint64_t degraded_mounts = 0;  ///< mounts without some device
};

LifeResult live(const LifeOptions& options);

/// Runs the same seed with fewer and fewer operations; the smallest limit that still fails. `live`:
/// the kind of life.
uint64_t shrink(const LifeOptions& failing, LifeResult (*live)(const LifeOptions&));

}  // namespace moltfs::sim
