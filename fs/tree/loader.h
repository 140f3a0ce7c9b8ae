// SPDX-License-Identifier: MIT
// Reads nodes from the devices, checks them against the pointers that led to them, and repairs bad
// copies from a good one. Needs no lock and holds none.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "alloc/base/uuid.h"
#include "alloc/volume/volume.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

struct NodeRequest {
  NodeExpectation expected;
  // The answer: a node, or an error. Neither: the node is no longer allocated.
  std::shared_ptr<Node> node;
  std::optional<Error> error;  ///< bad_node, io_error (no copy could be read)
};

class NodeLoader {
 public:
  explicit NodeLoader(alloc::Volume& volume) : volume_(volume), uuid_(volume.superblock().volume) {}

  /// Answers all requests. First copies are read in parallel.
  void load(std::span<NodeRequest> requests) const;

 private:
  void try_copies(NodeRequest& request) const;
  bool is_allocated(const NodePointer& pointer) const;
  void report_bad_copy(const NodeExpectation& expected, unsigned copy, const Error& error) const;
  void repair(const Node& node, unsigned copy) const;

  alloc::Volume& volume_;
  const Uuid uuid_;
};

}  // namespace moltfs::fs
