// SPDX-License-Identifier: MIT
// Trimming: discarding what is free within data chunks, for fstrim(8).
//
// What lies in no chunk needs none: mkfs, the commit that removes a chunk and the start of a
// replace have discarded it. A window at a time is frozen (Space::freeze_free), so writers go on
// elsewhere, a discard and a write of the same block never meet, and a window of the copier is
// passed over. Nodes are left alone: metadata chunks are few, and what is free in them is soon used
// again.
#pragma once

#include <cstdint>

#include "alloc/volume/volume.h"

namespace moltfs::alloc {

struct TrimRequest {
  /// A part of the data chunks, laid end to end; bytes.
  uint64_t start = 0, length = ~uint64_t{0};
  uint64_t least = 0;  ///< shorter pieces are left alone
};

/// (waits) Bytes discarded. Errors: not_supported (no device takes discards), read_only,
/// invalid_argument (`start` lies beyond the volume, or less than a block is asked for).
Result<uint64_t> trim(Volume& volume, const TrimRequest& request);

}  // namespace moltfs::alloc
