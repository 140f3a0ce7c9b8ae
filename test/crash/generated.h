// SPDX-License-Identifier: MIT
// Generated workloads: every sequence of up to three small operations (operations.h), and every
// power cut in each. The last operation is followed by a sync, each other one by a sync or not.
//
// Workloads are numbered, shorter ones first. A workload that begins like a shorter one is cut only
// from its last operation on: the same seed gives the same events, so the earlier cuts are those of
// the shorter one. A workload in which an operation is refused (the file does not exist any more)
// does nothing new and is left out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moltfs::crash {

inline constexpr unsigned kMaxSteps = 3;

struct Step {
  size_t operation = 0;  ///< index into small_operations()
  bool sync = false;     ///< after it
};
using Workload = std::vector<Step>;

/// Of up to `steps` operations.
uint64_t workload_count(unsigned steps = kMaxSteps);
/// REQUIRES: number < workload_count().
Workload workload(uint64_t number);
std::string describe(const Workload& workload);

struct Tried {
  bool refused = false;
  uint64_t cuts = 0;
  uint64_t images = 0;  ///< different ones
  std::string failure;  ///< the first one; empty: none
};
Tried try_workload(const Workload& workload);

}  // namespace moltfs::crash
