// SPDX-License-Identifier: MIT
// One life of a volume under the seeded scheduler: made, filled and changed by several clients, its
// device replaced (begun, cancelled, suspended by a failing target, resumed), the power cut,
// remounted, and in the end moved to a target that must hold everything with the source gone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "alloc/space/map.h"

namespace moltfs::sim {

struct LifeOptions {
  uint64_t seed = 1;
  /// Operations of all clients together, at most; for shrinking a failure to its shortest prefix.
  uint64_t operation_limit = ~uint64_t{0};
  bool verbose = false;
  bool power_cuts = true;
  bool target_faults = true;
  bool rot = true;  ///< in some lives the device rots
  /// What the mapper uses instead of the product's rule; tests of the historical bug set it. Called
  /// with the cursor of the replace under way.
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
};

LifeResult live(const LifeOptions& options);

/// Runs the same seed with fewer and fewer operations; the smallest limit that still fails.
uint64_t shrink(const LifeOptions& failing);

}  // namespace moltfs::sim
