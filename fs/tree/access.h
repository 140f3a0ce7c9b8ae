// SPDX-License-Identifier: MIT
// What the function of a critical section (transaction.h) gets: access to the running trees.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "alloc/space/space.h"
#include "fs/tree/format.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

struct TreeState;  // state.h

/// For reading. Lives on the stack of Transactions::read() or write().
class Access {
 public:
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  Generation running() const;
  const FsCounters& counters() const;

 protected:
  friend class Tree;
  friend class Transactions;
  explicit Access(TreeState& state) : state_(state) {}
  ~Access() = default;

  TreeState& state_;
  std::vector<NodeExpectation> missing_;  // set with node_missing; the first one is needed
  // The last needed node, if it was no longer allocated when it was to be loaded.
  std::optional<NodePointer> vanished_;
  std::vector<std::shared_ptr<Node>> pinned_;  // loaded for this operation: not evicted
};

/// For reading and changing.
class Txn : public Access {
 public:
  FsCounters& counters_for_change();

 private:
  friend class Tree;
  friend class Transactions;
  using Access::Access;

  alloc::NodeReservation reservation_;
  // Leaves with prepared erasures, and how many. Of one attempt to run the section.
  std::vector<std::pair<const Node*, unsigned>> erasures_;
};

}  // namespace moltfs::fs
