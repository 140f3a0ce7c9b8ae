// SPDX-License-Identifier: MIT
// Inside fs only: the trees as a superblock has them, read straight from the devices: every copy of
// every node, without transactions. For check and dump, which must get as far as they can on a
// volume that cannot be mounted. Where the fsync log was replayed, its nodes are looked at first.
//
// Memory: a few dozen nodes for each level of a tree, and one bit for each node there could be.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "alloc/base/uuid.h"
#include "alloc/volume/volume.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

/// A place on a device, for messages.
struct CopyPlace {
  DeviceId device;
  uint64_t offset = 0;
};
/// "devid 1, offset 4194304".
std::string describe(const CopyPlace& place);
/// Where copy `copy` of the byte at `at` lies; nothing if there is no such copy.
std::optional<CopyPlace> place_of(const alloc::Map& map, LogicalOffset at, unsigned copy);

/// A node as all its copies have it.
struct NodeReading {
  NodeExpectation expected;
  std::shared_ptr<const Node> node;  ///< of the first good copy; null if there is none
  struct Bad {
    unsigned copy;
    CopyPlace place;
    Error error;
  };
  std::vector<Bad> bad;  ///< the copies that are not good; no copy at all: empty and no node
};

/// Which nodes have been seen: no node has two parents.
class NodesSeen {
 public:
  enum class Answer { first_time, seen_before, no_place };
  /// no_place: `address` is not the place of a node in a metadata chunk of `map`.
  Answer see(const alloc::Map& map, LogicalOffset address);

 private:
  std::map<LogicalOffset, std::vector<bool>> slots_;  // by chunk
};

class TreeReader {
 public:
  using Nodes = std::map<LogicalOffset, std::shared_ptr<const Node>>;
  /// `replayed`: nodes that are on no device (logged_data.h).
  explicit TreeReader(alloc::Volume& volume, uint64_t cache_bytes = 16ull << 20,
                      Nodes replayed = {});

  /// Reads every copy of all of them.
  void read(std::span<NodeReading> readings) const;

  struct Walk {
    /// Each node that there is a pointer to, in the order of keys, parents first. Null: nobody
    /// listens.
    std::function<void(const NodeReading&)> node;
    /// Pointers that are not followed, to a node seen before or to no place of a node.
    std::function<void(const NodeExpectation&, NodesSeen::Answer)> bad_pointer;
    /// Each item of the leaves that can be read, ascending.
    std::function<void(const Item&)> item;
    /// Leaves are not read.
    bool inner_only = false;
  };
  /// Walks a whole tree, as far as it can be read.
  void walk(TreeId tree, const TreeRoot& root, NodesSeen& seen, const Walk& walk) const;

  /// Calls `visit` for the items in [first, last], ascending, until it returns false. Errors:
  /// bad_node (no good copy of a node on the way; which one, the detail says).
  Result<void> scan(TreeId tree, const TreeRoot& root, const Key& first, const Key& last,
                    const std::function<bool(const Item&)>& visit);
  Result<std::optional<std::vector<std::byte>>> find(TreeId tree, const TreeRoot& root,
                                                     const Key& key);

 private:
  void walk_nodes(std::vector<NodeExpectation> siblings, NodesSeen& seen, const Walk& walk) const;
  Result<std::shared_ptr<const Node>> load(const NodeExpectation& expected);
  Result<bool> scan_node(const NodeExpectation& expected, const Key& first, const Key& last,
                         const std::function<bool(const Item&)>& visit);

  alloc::Volume& volume_;
  const Uuid uuid_;
  const std::shared_ptr<const alloc::Map> map_;
  const Nodes replayed_;
  const size_t cache_nodes_;
  std::unordered_map<LogicalOffset, std::shared_ptr<const Node>> cache_;  // of load()
};

}  // namespace moltfs::fs
