// SPDX-License-Identifier: MIT
// Answers the questions of the replace engine (replace/host.h) from the running trees.
#pragma once

#include "fs/filesystem.h"
#include "fs/mount/request_load.h"
#include "fs/tree/transaction.h"
#include "replace/host.h"

namespace moltfs::fs {

class ReplaceHost final : public replace::Host {
 public:
  /// `filesystem` gives the paths in messages.
  ReplaceHost(Transactions& transactions, Filesystem& filesystem, RequestLoad& load)
      : transactions_(transactions), filesystem_(filesystem), load_(load) {}

  /// An extent record that reaches over an end of `range` is clipped, with its checksums. A node is
  /// listed if it lies entirely within `range`. A range outside all chunks is empty.
  Result<std::vector<replace::AllocatedExtent>> allocated_in(LogicalRange range) override;
  bool matches(const replace::AllocatedExtent& extent, ConstBytes bytes,
               uint64_t& first_bad) override;
  Result<Generation> commit() override { return transactions_.commit(true); }
  Generation running() override { return transactions_.running(); }
  bool programs_are_at_work() override { return load_.programs_are_at_work(); }
  std::string name_of(const replace::AllocatedExtent& extent) override;

 private:
  Result<std::vector<replace::AllocatedExtent>> data_in(LogicalRange range);
  std::vector<replace::AllocatedExtent> nodes_in(LogicalRange range);

  Transactions& transactions_;
  Filesystem& filesystem_;
  RequestLoad& load_;
};

}  // namespace moltfs::fs
