// SPDX-License-Identifier: MIT
// Trimming: discarding the free space within data chunks, for fstrim(8).
//
// Space outside of chunks needs no trimming: mkfs, the commit that removed a chunk, or the start of
// a replace has discarded it. One window at a time is frozen (Space::freeze_free). So writers go on
// elsewhere, no block is discarded and written at the same time, and what the copier has frozen is
// skipped. Nodes are not trimmed: metadata chunks are few, and their free space is soon used again.
#pragma once

#include <cstdint>

#include "alloc/volume/volume.h"

namespace moltfs::alloc {

struct TrimRequest {
  /// Which part to trim, in bytes: a range of the sequence of all data chunks.
  uint64_t start = 0, length = ~uint64_t{0};
  uint64_t min_bytes = 0;  ///< shorter pieces are not discarded
};

/// (waits) Returns the bytes that were discarded. Errors: not_supported (no device takes discards),
/// read_only, invalid_argument (`start` lies beyond the volume, or `length` is less than a block).
Result<uint64_t> trim(Volume& volume, const TrimRequest& request);

}  // namespace moltfs::alloc
