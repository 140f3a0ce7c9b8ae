// SPDX-License-Identifier: MIT
// Reads the trees of a superblock directly from the devices, every copy of every node, without
// transactions. Check and dump use it, because they must get as far as possible on a volume that
// cannot be mounted. If the fsync log was replayed, nodes from the replay come first.
//
// Memory: a few dozen nodes for each level of a tree, and one bit for each possible node.
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
/// "devid 1, offset 4194304 of /dev/sdb1".
std::string describe(const CopyPlace& place, const alloc::Volume& volume);
/// The place of copy `copy` of the byte at `at`; nothing if there is no such copy.
std::optional<CopyPlace> place_of(const alloc::Map& map, LogicalOffset at, unsigned copy);

/// The result of reading all copies of a node.
struct NodeReading {
  NodeExpectation expected;
  std::shared_ptr<const Node> node;  ///< of the first good copy; null if there is none
  struct Bad {
    unsigned copy;
    CopyPlace place;
    Error error;
  };
  std::vector<Bad> bad;  ///< copies that are not good; empty, with no node: there is no chunk
};

/// Which nodes have been seen, to find nodes with two parents.
class NodesSeen {
 public:
  enum class Answer { first_time, seen_before, no_place };
  /// no_place: no node can be at `address`, because it is not a slot of a metadata chunk of `map`.
  Answer see(const alloc::Map& map, LogicalOffset address);

 private:
  std::map<LogicalOffset, std::vector<bool>> slots_;  // by chunk
};

class TreeReader {
 public:
  using Nodes = std::map<LogicalOffset, std::shared_ptr<const Node>>;
  /// `replayed`: nodes that the replay of the fsync log made; they are on no device.
  explicit TreeReader(alloc::Volume& volume, uint64_t cache_bytes = 16ull << 20,
                      Nodes replayed = {});

  /// Reads every copy of all these nodes.
  void read(std::span<NodeReading> readings) const;

  struct Walk {
    /// Called for each node that has a pointer to it, in the order of keys, parents first. May be
    /// empty, as the functions below.
    std::function<void(const NodeReading&)> node;
    /// Called for a pointer that is not followed: to a node seen before, or to no_place.
    std::function<void(const NodeExpectation&, NodesSeen::Answer)> bad_pointer;
    /// Called for each item of the readable leaves, ascending.
    std::function<void(const Item&)> item;
    /// Do not read leaves.
    bool inner_only = false;
  };
  /// Visits a whole tree, as far as it can be read.
  void walk(TreeId tree, const TreeRoot& root, NodesSeen& seen, const Walk& walk) const;

  /// Calls `visit` for the items in [first, last], ascending, until it returns false. Errors:
  /// bad_node (a node on the way has no good copy; the message says which).
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
