// SPDX-License-Identifier: MIT
// What a check reports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moltfs::fs {

struct Finding {
  std::string where;  ///< a path ("/home/a/b at 4096"), or a part of the volume ("chunk table")
  std::string what;   ///< one sentence
};

struct CheckReport {
  std::vector<Finding> findings;  ///< the first 1000 at most; see `finding_count`
  uint64_t finding_count = 0;
  std::vector<Finding> notes;  ///< worth knowing, but not errors
  uint64_t inodes = 0, directories = 0, nodes = 0, extents = 0;
  uint64_t data_bytes_verified = 0;  ///< of all copies
  bool clean() const { return finding_count == 0; }
};

}  // namespace moltfs::fs
