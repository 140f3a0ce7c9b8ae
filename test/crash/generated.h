// SPDX-License-Identifier: MIT
// Generated workloads: every sequence of up to three of the small operations (operations.h), each
// but the last followed by a sync or not, the last by one; and every cut of the power in each.
//
// Workloads are numbered, shorter ones first. One that does in its beginning what a shorter one
// does is only cut from its last operation on: the cuts before that are those of the shorter one,
// for the same seed gives the same events. One in which an operation is refused (the file is not
// there any more) does nothing that another does not do, and is left out.
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
