// SPDX-License-Identifier: MIT
// Everything that the replace engine asks of the filesystem.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::replace {

/// Something that is allocated and written, by the running trees: a file extent or a tree node.
struct AllocatedExtent {
  LogicalOffset start;
  uint64_t length = 0;  ///< bytes, a multiple of 4 KiB
  Generation birth;     ///< its own (not its device extent's)
  bool is_node = false;
  uint64_t inode = 0, file_offset = 0;  ///< owner of a file extent
  std::vector<uint64_t> checksums;      ///< one for each 4 KiB block of a file extent
};

class Host {
 public:
  virtual ~Host() = default;
  /// What is allocated and written within `range` (clipped to it), ascending. Unwritten
  /// (preallocated) extents are not listed. Does I/O. For a frozen range, nothing is missing from
  /// the answer until the thaw.
  virtual Result<std::vector<AllocatedExtent>> allocated_in(LogicalRange range) = 0;
  /// True if `bytes` match the checksums of the whole `extent`. Else `first_bad` is the offset
  /// within the extent of the first 4 KiB block that does not match (node: 0).
  virtual bool matches(const AllocatedExtent& extent, ConstBytes bytes, uint64_t& first_bad) = 0;
  /// Makes a commit that begins after the call. Returns its generation.
  virtual Result<Generation> commit() = 0;
  /// Generation of the running transaction.
  virtual Generation running() = 0;
  /// True while programs keep the filesystem busy. Asked before each window.
  virtual bool programs_are_at_work() = 0;
  /// For messages: "/home/a/b at 4096", "node of the extent tree".
  virtual std::string name_of(const AllocatedExtent& extent) = 0;
};

}  // namespace moltfs::replace
