// SPDX-License-Identifier: MIT
// `moltfs check` as a library function: verifies a volume that is not mounted. Writes nothing.
//
// What is verified:
//   - superblocks and chunk tables, on every device;
//   - both trees, every copy of every node: checksum, address, order of keys, level, and that
//     parent and child agree;
//   - each node has one parent, each block of data one owner;
//   - file extents against extent records, in both directions; usage records;
//   - inodes: mode; size and allocated bytes against extents; link counts against directory
//     entries; parents of directories; each entry leads to an inode; each inode has an entry or the
//     mark of an orphan;
//   - hashes of names, xattrs, ACLs;
//   - with `data`: the checksum of every block of data, on every copy.
//
// Steps:
//   1. The volume is opened read-only. Transactions are not used: they need undamaged trees.
//   2. Superblock copies and chunk tables of all devices are read.
//   3. The fs tree is walked. All items of an inode follow each other (check_items). What concerns
//      several inodes, links and parents, is collected for each inode (check_inodes).
//   4. The extent tree is walked: records, usage, and with `data` the blocks (check_extents).
//   5. File extents are compared with records. Both walks have summed hashes of what they saw into
//      many buckets. Where the sums of a bucket differ, a second walk collects the elements of that
//      bucket (extent_sums). So memory is bounded whatever the number of extents.
//   6. Inode numbers in findings become paths.
//
// What a damaged node held is unknown. Its range of keys is remembered, and nothing that could have
// been in it is reported as missing.
//
// Memory: one bit for each possible node, about a hundred bytes for each inode.
//
// Not findings: orphans (the next mount removes them), interrupted truncates that have their mark,
// and what a power cut explains: one torn superblock copy while the other is good (a note).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"
#include "fs/check/report.h"

namespace moltfs::fs {

struct CheckOptions {
  bool data = false;               ///< verify the data, too
  std::vector<std::string> hints;  ///< -o device=PATH
  bool degraded = false;           ///< check without devices that are missing
  uint64_t cache_bytes = 256ull << 20;
  /// Called from time to time with the work done so far, in bytes read; may be empty.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
};

/// Damage is in the report. Errors: those of Volume::open (the volume cannot be opened at all).
Result<CheckReport> check(Runtime& runtime, alloc::DeviceOpener& opener,
                          const std::vector<std::string>& paths, const CheckOptions& options);

}  // namespace moltfs::fs
