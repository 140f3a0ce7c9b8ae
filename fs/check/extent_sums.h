// SPDX-License-Identifier: MIT
// Inside check only: comparing two large sets, of file extents and of extent records, that come in
// different orders, in bounded memory.
//
// Both sets are summed up: a hash of each element is added to the sum of its bucket. Sets that are
// equal have equal sums in all buckets; two that differ have equal sums with a probability of
// 2^-64. Elements that belong together have one address, which decides the bucket: so what is wrong
// is found by looking at the few buckets whose sums differ.
#pragma once

#include <array>
#include <cstdint>

#include "alloc/base/checksum.h"
#include "alloc/base/strong_types.h"
#include "fs/content/extents.h"

namespace moltfs::fs::checking {

/// What a file extent and its record have in common.
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
  /// The bucket of `claim` has something on one side that is not on the other.
  bool differs(const ExtentClaim& claim) const { return sums_[bucket_of(claim)] != 0; }
  bool any_differs() const;

 private:
  static constexpr size_t kBuckets = 1 << 16;
  static size_t bucket_of(const ExtentClaim& claim);
  static uint64_t hash_of(const ExtentClaim& claim);

  std::array<uint64_t, kBuckets> sums_{};
};

}  // namespace moltfs::fs::checking
