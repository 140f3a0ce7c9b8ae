// SPDX-License-Identifier: MIT
// Values that Space and its allocators exchange.
#pragma once

#include <cstdint>

#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

/// A node of the running trees.
struct AllocatedNode {
  LogicalOffset address;
  Generation birth;
};

/// A data chunk whose usage record is out of date.
struct UsageChange {
  LogicalOffset chunk;
  uint64_t used_bytes = 0;  ///< what the record must say; 0: it can be removed
};

}  // namespace moltfs::alloc
