// SPDX-License-Identifier: MIT
// `moltfs dump` as library functions: what is on the devices, in words. Reads only; as far as what
// is there can be read, for a damaged volume is where it is needed. For people (and scripts: JSON).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/volume/volume.h"
#include "fs/tree/format.h"

namespace moltfs::fs {

struct DumpRequest {
  std::vector<std::string> paths;  ///< of the devices
  std::vector<std::string> hints;  ///< -o device=PATH
  /// Is given the text in pieces.
  std::function<void(std::string_view)> print;
};

// Errors of all: those of opening the devices or, but for dump_superblocks, Volume::open.

/// Every copy on each device: what it says, or why it is not valid. Devices need not belong
/// together, and may be in use.
Result<void> dump_superblocks(Runtime& runtime, alloc::DeviceOpener& opener,
                              const DumpRequest& request);
/// The chunk table. JSON: {"chunks":[{"start","length","kind","profile","birth",
/// "stripes":[{"device","offset","birth"}]}]}.
Result<void> dump_chunks(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                         bool json);
/// All nodes of a tree, parents first, with all items; or the node at `node` alone. Error:
/// not_found if the tree has no such node.
Result<void> dump_tree(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                       TreeId tree, std::optional<LogicalOffset> node);
/// An inode with its attributes, names and extents, and where those lie. `which`: a number, or a
/// path from the root ("/a/b"). Errors: not_found, invalid_argument, bad_item, bad_node.
Result<void> dump_inode(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                        const std::string& which);
/// The batches of the fsync log that the next mount will replay.
Result<void> dump_log(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request);
/// The replace record with its coverage.
Result<void> dump_replace(Runtime& runtime, alloc::DeviceOpener& opener,
                          const DumpRequest& request);

}  // namespace moltfs::fs
