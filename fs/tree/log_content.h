// SPDX-License-Identifier: MIT
// What a batch of the fsync log (alloc/disk/log_batch.h) says: which items of the trees are new, changed
// or gone, and the counters. To replay it is to put and to erase, in order, on the trees that the
// batch before has left.
//
// A batch is a picture of one instant: under the lock of the transactions, for each key that was
// changed since the batch before, what the running tree has there now. So a change needs only to
// leave its key behind (ChangedKeys), and what was changed twice is written once.
//
// The usage records of chunks are brought up to date in the trees by commits alone; a batch holds
// those that a commit would write now, so that usage and extent records agree after a replay.
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

/// The keys changed since the last batch of a chain. Bounded: beyond that a commit is cheaper.
class ChangedKeys {
 public:
  static constexpr size_t kMost = 4096;

  void note(const ItemId& item) {
    if (too_many_) return;
    items_.push_back(item);
    if (items_.size() == 2 * kMost) compact();
  }
  /// They were not all kept; the chain cannot go on.
  bool too_many() const { return too_many_; }
  /// Each once, ascending. REQUIRES: !too_many().
  const std::vector<ItemId>& sorted();
  void clear() { items_.clear(); }

 private:
  void compact();

  std::vector<ItemId> items_;
  bool too_many_ = false;
};

struct Redo {
  struct Item {
    ItemId id;
    std::optional<std::vector<std::byte>> value;  ///< nothing: the item is gone
  };
  FsCounters counters;
  std::vector<Item> items;
};

/// Batches with payloads beyond this are not written: a commit is not much dearer.
inline constexpr size_t kMaxRedoBytes = 256 * 1024;

std::vector<std::byte> encode(const Redo& redo);
/// Checks every field. Error: bad_item.
Result<Redo> decode_redo(ConstBytes payload);

/// A chain of the log, and what its next batch has to say.
struct ActiveLog {
  alloc::LogChain chain;
  LogicalOffset next_logical;  ///< data chunks from here on are not in the chain
  ChangedKeys changed;
  std::set<LogicalOffset> usage;  ///< chunks whose usage in the chain is not that of the trees
  bool counts = true;             ///< false: on a commit under way that swaps devices (L3)
};

}  // namespace moltfs::fs
