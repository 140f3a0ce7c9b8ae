// SPDX-License-Identifier: MIT
// Used by check only: compares two large sets, file extents and extent records, which are read in
// different orders, in bounded memory.
//
// The hash of each element is added to the sum of its bucket; for a record it is subtracted. If the
// sets are equal, all sums are zero. If they differ in a bucket, its sum is zero with a probability
// of 2^-64. The address of an element decides its bucket, so a file extent and its record share
// one. Differences are found by comparing only the buckets whose sums are not zero.
#pragma once

#include <cstdint>
#include <vector>

#include "alloc/base/checksum.h"
#include "alloc/base/strong_types.h"
#include "fs/content/extents.h"

namespace moltfs::fs::checking {

/// What a file extent and its record must agree on.
struct ExtentClaim {
  LogicalOffset logical;
  InodeNumber ino;
  uint64_t file_offset = 0;
  uint64_t length = 0;
  bool unwritten = false;
  bool operator==(const ExtentClaim&) const = default;
};

class ExtentSums {
 public:
  void add_file_extent(const ExtentClaim& claim) { sums_[bucket_of(claim)] += hash_of(claim); }
  void add_record(const ExtentClaim& claim) { sums_[bucket_of(claim)] -= hash_of(claim); }
  /// The two sets differ in the bucket of `claim`.
  bool differs(const ExtentClaim& claim) const { return sums_[bucket_of(claim)] != 0; }
  bool any_differs() const;

 private:
  static constexpr size_t kBuckets = 1 << 16;
  static size_t bucket_of(const ExtentClaim& claim);
  static uint64_t hash_of(const ExtentClaim& claim);

  std::vector<uint64_t> sums_ = std::vector<uint64_t>(kBuckets);  // more than a small stack has
};

}  // namespace moltfs::fs::checking
