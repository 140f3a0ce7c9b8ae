// SPDX-License-Identifier: MIT
// What the replace engine asks of the filesystem (replace/host.h), answered from the running trees.
#pragma once

#include <atomic>

#include "fs/filesystem.h"
#include "fs/mount/busy_time.h"
#include "fs/tree/transaction.h"
#include "replace/host.h"

namespace moltfs::fs {

class ReplaceHost final : public replace::Host {
 public:
  ReplaceHost(Transactions& transactions, const RequestBusyTime& serving)
      : transactions_(transactions), serving_(serving) {}
  /// For paths in messages; the engine starts before the filesystem is open. Null: no paths.
  void set_filesystem(Filesystem* filesystem) { filesystem_ = filesystem; }

  /// A record that begins before `range` or ends behind it is clipped, with its checksums. Nodes
  /// are listed if they lie within. A range without a chunk holds nothing.
  Result<std::vector<replace::AllocatedExtent>> allocated_in(LogicalRange range) override;
  bool matches(const replace::AllocatedExtent& extent, ConstBytes bytes,
               uint64_t& first_bad) override;
  Result<Generation> commit() override { return transactions_.commit(true); }
  Generation running() override { return transactions_.running(); }
  Nanoseconds time_serving() override { return serving_.total(); }
  std::string name_of(const replace::AllocatedExtent& extent) override;

 private:
  Result<std::vector<replace::AllocatedExtent>> data_in(LogicalRange range);
  std::vector<replace::AllocatedExtent> nodes_in(LogicalRange range);

  Transactions& transactions_;
  const RequestBusyTime& serving_;
  std::atomic<Filesystem*> filesystem_{nullptr};
};

}  // namespace moltfs::fs
