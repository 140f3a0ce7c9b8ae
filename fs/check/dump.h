// SPDX-License-Identifier: MIT
// `moltfs dump` as library functions: prints what is on the devices, as text or JSON. Writes
// nothing. Damage is printed where it is met, and the rest of the volume is still printed.
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
  /// Called with the text, piece by piece.
  std::function<void(std::string_view)> print;
};

// All return the errors of Volume::open, dump_superblocks those of opening a device.

/// Every superblock copy on each device, or why it is not valid. The devices may be of different
/// volumes, and may be in use.
Result<void> dump_superblocks(Runtime& runtime, alloc::DeviceOpener& opener,
                              const DumpRequest& request);
/// The chunk table. JSON: {"chunks":[{"start","length","kind","profile","birth",
/// "stripes":[{"devid","offset","birth"}]}]}.
Result<void> dump_chunks(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                         bool json);
/// All nodes of a tree with their items, parents first; with `node`, only the node at that address.
/// Error: not_found if the tree has no such node.
Result<void> dump_tree(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                       TreeId tree, std::optional<LogicalOffset> node);
/// All items of an inode, with the places of its extents on the devices. `which`: a number, or a
/// path from the root ("/a/b"). Errors: not_found, invalid_argument, bad_node.
Result<void> dump_inode(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                        const std::string& which);
/// The batches of the fsync log that the next mount will replay.
Result<void> dump_log(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request);
/// The replace record with its coverage.
Result<void> dump_replace(Runtime& runtime, alloc::DeviceOpener& opener,
                          const DumpRequest& request);

}  // namespace moltfs::fs
