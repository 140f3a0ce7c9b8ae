// SPDX-License-Identifier: MIT
// The seam: all that the replace engine asks of the filesystem.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::replace {

/// Something allocated and written, as the running trees have it: a file extent or a tree node.
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
  /// (preallocated) extents are not listed. Does I/O. For a frozen range the answer stays a
  /// superset of the truth until the thaw.
  virtual Result<std::vector<AllocatedExtent>> allocated_in(LogicalRange range) = 0;
  /// True if the bytes are those of `extent` (whole). `first_bad` is set to the offset within the
  /// extent of the first 4 KiB block (node: 0) that is not.
  virtual bool matches(const AllocatedExtent& extent, ConstBytes bytes, uint64_t& first_bad) = 0;
  /// Begins, after the call, and finishes a commit; its generation.
  virtual Result<Generation> commit() = 0;
  /// Generation of the running transaction.
  virtual Generation running() = 0;
  /// How long the requests of programs that have ended took, in all (side by side: each).
  virtual Nanoseconds time_serving() = 0;
  /// For messages: "/home/a/b at 4096", "node of the extent tree".
  virtual std::string name_of(const AllocatedExtent& extent) = 0;
};

}  // namespace moltfs::replace
