// SPDX-License-Identifier: MIT
// Inside fs only: tells Space which data blocks have extent records.
#pragma once

#include <vector>

#include "alloc/space/space.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {

class RecordedExtents final : public alloc::AllocatedSource {
 public:
  explicit RecordedExtents(Transactions& transactions) : transactions_(transactions) {}
  /// Reads the extent tree in several critical sections. Errors: bad_item, bad_node, io_error.
  Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override;

 private:
  Result<std::vector<LogicalRange>> ranges_from(LogicalOffset from, LogicalOffset end);

  Transactions& transactions_;
};

}  // namespace moltfs::fs
