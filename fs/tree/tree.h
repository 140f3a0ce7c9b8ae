// SPDX-License-Identifier: MIT
// The copy-on-write B+trees: items (key, value of up to kMaxItemBytes) in 16 KiB nodes.
//
//   superblock --> root (level n) --> ... --> level 1 --> leaves (level 0)
//                  [key, pointer]*                        [key, value]*
//
// A *pointer* holds the child's address, birth generation and checksum. The header of a
// node repeats its address, generation, tree and level. So stale, lost and misplaced writes
// are detected.
//
// In memory a node is exactly its on-disk 16 KiB, aligned for direct I/O. A node born in the
// running transaction is changed in place. Any other node is first copied to a new address, which
// changes its parent, and so on up to the root. Nodes of a closed transaction never change again.
//
// T1 Nothing in here does I/O or waits. If a node is not in memory, the function returns
//    Errc::node_missing; Transactions then drops the lock, loads the node, and runs the whole
//    operation again. An operation therefore reads and *prepares* everything before it changes
//    anything: prepare() makes sure that the path to a key (and, for an erase that would leave a
//    leaf too empty, a sibling) is in memory. insert/update/erase of prepared keys cannot fail.
// T2 Nodes are split when full. A node less than a quarter full is merged with a sibling if both
//    fit into seven eighths of one node. Only siblings in memory are merged, so an erase never
//    needs I/O. An empty node is always removed. A root with one child is replaced by that child.
//    Ascending inserts leave full nodes behind.
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

class Access;  // access.h
class Txn;     // access.h; an Access that can change

class Tree {
 public:
  constexpr explicit Tree(TreeId id) : id_(id) {}
  TreeId id() const { return id_; }

  // Errors of all Results below: node_missing (T1), bad_node, bad_item.
  Result<std::optional<ConstBytes>> find(Access& access, const Key& key) const;
  /// Checks that the leaves of all `keys` are in memory; else node_missing, and many of them are
  /// loaded together.
  Result<void> gather(Access& access, std::span<const Key> keys) const;
  /// First item with a key >= `key`; last item with a key <= `key`.
  Result<std::optional<Item>> at_or_after(Access& access, const Key& key) const;
  Result<std::optional<Item>> at_or_before(Access& access, const Key& key) const;
  /// Calls `visit` for the items in [first, last], ascending, until it returns false or an error,
  /// which scan() returns. Items visited before a node_missing will be visited again when the
  /// operation runs again.
  Result<void> scan(Access& access, const Key& first, const Key& last,
                    const std::function<Result<bool>(const Item&)>& visit) const;

  /// See T1. put: the key will be inserted or updated. Any number of keys may be prepared and then
  /// changed in one critical section. REQUIRES: key != Key::max().
  enum class Intent : uint8_t { put, erase };
  Result<void> prepare(Txn& txn, const Key& key, Intent intent) const;

  /// REQUIRES: prepared; value.size() <= kMaxItemBytes; `value` is not a view into this tree (T3).
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
