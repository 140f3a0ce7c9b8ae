// SPDX-License-Identifier: MIT
// The content of a batch of the fsync log (alloc/disk/log_batch.h): the items of the trees that are
// new, changed or erased, and the counters. Replaying it means to put and erase these items, in
// order, on the trees as the previous batch left them.
//
// A batch shows one instant: for each key changed since the previous batch, it holds what the
// running tree has there, taken under the lock of the transactions. So a change only records its
// key (ChangedKeys), and an item changed twice is written once.
//
// Only commits bring the usage records of chunks up to date in the trees. A batch holds the records
// that a commit would write now, so that usage and extent records agree after a replay.
#pragma once

#include <optional>
#include <set>
#include <vector>

#include "alloc/disk/log_batch.h"
#include "fs/tree/format.h"

namespace moltfs::fs {

struct ItemId {
  TreeId tree = TreeId::fs;
  Key key;
  auto operator<=>(const ItemId&) const = default;
};

/// The keys changed since the last batch of a chain. Bounded: beyond the limit a commit is cheaper.
class ChangedKeys {
 public:
  static constexpr size_t kMaxKeys = 4096;

  void note(const ItemId& item) {
    if (overflowed_) return;
    items_.push_back(item);
    if (items_.size() == 2 * kMaxKeys) compact();
  }
  /// True: some keys were dropped; the chain cannot be continued.
  bool overflowed() const { return overflowed_; }
  /// Each key once, ascending. REQUIRES: !overflowed().
  const std::vector<ItemId>& sorted();
  void clear() { items_.clear(); }

 private:
  void compact();

  std::vector<ItemId> items_;
  bool overflowed_ = false;
};

struct LogContent {
  struct Item {
    ItemId id;
    std::optional<std::vector<std::byte>> value;  ///< nothing: the item was erased
  };
  FsCounters counters;
  std::vector<Item> items;
};

/// A batch whose encoded content is longer is not written: a commit costs little more.
inline constexpr size_t kMaxLogContentBytes = 256 * 1024;

std::vector<std::byte> encode(const LogContent& content);
/// Checks every field. Error: bad_item.
Result<LogContent> decode_log_content(ConstBytes payload);

/// A chain of the log, and what its next batch has to hold.
struct ActiveLog {
  alloc::LogChain chain;
  LogicalOffset next_logical;  ///< data chunks from this address on are not in the chain yet
  ChangedKeys changed;
  std::set<LogicalOffset> usage;  ///< chunks whose usage in the chain differs from the trees
  bool usable = true;             ///< false: on a running commit that swaps devices (L3)
  bool broken = false;            ///< the last batch was not written: nothing may follow it
};

}  // namespace moltfs::fs
