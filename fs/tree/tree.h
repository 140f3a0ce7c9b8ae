// SPDX-License-Identifier: MIT
// The copy-on-write B+trees: items (key, value of up to kMaxItemBytes) in 16 KiB nodes.
//
//   superblock --> root (level n) --> ... --> level 1 --> leaves (level 0)
//                  [key, pointer]*                        [key, value]*
//
// A *pointer* holds the child's address, birth generation and checksum; a node's own header repeats
// its address, generation, tree and level, so stale, lost and misplaced writes are seen.
//
// In memory a node is exactly its on-disk 16 KiB (aligned, so that it is written as it is). A node
// born in the running transaction is changed in place; any other is first copied to a new address,
// which changes its parent, up to the root. Nodes of a closed transaction never change again.
//
// T1 Nothing in here does I/O or waits. A node that is not in memory makes the function return
//    Errc::node_missing; the transaction's driver (transaction.h) drops the lock, loads it, and
//    runs the whole operation again. An operation therefore reads and *prepares* everything before
//    it changes anything: prepare() makes sure that the path to a key (and, for an erase that would
//    leave a leaf too empty, a sibling) is in memory. insert/update/erase of prepared keys cannot
//    fail.
// T2 Nodes are split when full. A node less than a quarter full is merged with a sibling if both
// fit
//    into seven eighths of one. Merging uses only siblings that are in memory (so an erase never
//    needs I/O); an empty node always goes; a root with one child gives way to it. Ascending
//    inserts leave full nodes behind.
// T3 An item view (ConstBytes) is valid until the next change of the same tree or the end of the
//    critical section.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"
#include "fs/tree/format.h"
#include "fs/tree/key.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

/// At least four items fit into a leaf.
inline constexpr size_t kMaxItemBytes = 3900;
static_assert(4 * (kMaxItemBytes + sizeof(LeafSlot)) <= kNodeCapacity);

class Access;  // transaction.h: what an operation that reads holds
class Txn;     // transaction.h: what an operation that changes holds; is an Access

class Tree {
 public:
  constexpr explicit Tree(TreeId id) : id_(id) {}
  TreeId id() const { return id_; }

  // Errors of all Results below: node_missing (T1), bad_node, bad_item.
  Result<std::optional<ConstBytes>> find(Access& access, const Key& key) const;
  /// Leaves for all `keys` are in memory; else node_missing, and many of them are loaded together.
  Result<void> gather(Access& access, std::span<const Key> keys) const;
  /// First item with a key >= `key`; last item with a key <= `key`.
  Result<std::optional<Item>> at_or_after(Access& access, const Key& key) const;
  Result<std::optional<Item>> at_or_before(Access& access, const Key& key) const;
  /// Calls `visit` for the items in [first, last], ascending, until it returns false. Items visited
  /// before a node_missing will be visited again when the operation is run again.
  Result<void> scan(Access& access, const Key& first, const Key& last,
                    const std::function<bool(const Item&)>& visit) const;

  /// T1. `erase`: the key will be erased; else it will be inserted or updated. Any number of keys
  /// may be prepared and then changed in one critical section. REQUIRES: key != Key::max().
  enum class Intent : uint8_t { put, erase };
  Result<void> prepare(Txn& txn, const Key& key, Intent intent) const;

  /// REQUIRES: prepared; value.size() <= kMaxItemBytes; `value` is no view into this tree (T3).
  /// insert: key absent. update, erase: present.
  void insert(Txn& txn, const Key& key, ConstBytes value) const;
  void update(Txn& txn, const Key& key, ConstBytes value) const;
  void erase(Txn& txn, const Key& key) const;
  /// insert or update.
  void put(Txn& txn, const Key& key, ConstBytes value) const;

 private:
  TreeId id_;
};

}  // namespace moltfs::fs
