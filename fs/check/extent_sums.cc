// SPDX-License-Identifier: MIT
// Sums of hashes, by bucket.
#include "fs/check/extent_sums.h"

#include <algorithm>

namespace moltfs::fs::checking {

bool ExtentSums::any_differs() const {
  return std::any_of(sums_.begin(), sums_.end(), [](uint64_t sum) { return sum != 0; });
}

/// Adjacent blocks go to different buckets.
size_t ExtentSums::bucket_of(const ExtentClaim& claim) {
  return claim.logical.value / kBlockSize % kBuckets;
}

uint64_t ExtentSums::hash_of(const ExtentClaim& claim) {
  const uint64_t words[] = {claim.logical.value, claim.ino.value, claim.file_offset, claim.length,
                            claim.unwritten ? 1u : 0u};
  return checksum_of(std::as_bytes(std::span(words)));
}

}  // namespace moltfs::fs::checking
