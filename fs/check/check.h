// SPDX-License-Identifier: MIT
// `moltfs check` as a library function: verifies a volume that is not mounted, writes nothing.
//
// What is verified: superblocks and chunk table; both trees (every node on every copy: checksum,
// place, order of keys, level, that parent and child agree); that each node and each data block has
// one owner; file extents against extent records both ways; the usage records; inodes (mode, size
// and allocated bytes against extents, link counts against directory entries, parents of
// directories, no entry without inode, no inode without entry unless an orphan); hashes of names;
// xattrs; ACLs; with `data`, the checksum of every data block on every copy.
//
// How it goes:
//   1. The volume is opened for reading only: nothing of transactions, which need whole trees.
//   2. Superblock copies and chunk tables of all devices.
//   3. A walk over the fs tree: inodes with all that belongs to them come one after the other
//      (check_inodes). What several have to do with, links and parents, is kept per inode.
//   4. A walk over the extent tree (check_extents): records, usage, with `data` the blocks.
//   5. File extents against records. Both walks have added up hashes of what they saw, in many
//      buckets; where the sums of a bucket differ, a second walk collects just what is in it
//      (extent_sums). So memory is bounded whatever the number of extents.
//   6. Inode numbers in findings become paths.
//
// What a rotten node held is lost to the check: its range of keys is remembered, and nothing that
// could lie in it is reported as missing.
//
// Memory: a bit for each node there could be, about a hundred bytes for each inode.
//
// No findings: orphans (the next mount removes them), interrupted truncates with their mark, and
// what a power cut explains: a superblock copy that is torn while the other is good (a note).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"
#include "fs/filesystem.h"

namespace moltfs::fs {

struct CheckOptions {
  bool data = false;
  std::vector<std::string> hints;  ///< -o device=PATH
  uint64_t cache_bytes = 256ull << 20;
  /// Called now and then with how far it is; may be empty.
  std::function<void(uint64_t done_bytes, uint64_t total_bytes)> progress;
};

struct Finding {
  std::string where;  ///< a path ("/home/a/b at 4096"), or a part of the volume ("chunk table")
  std::string what;   ///< one sentence
};

struct CheckReport {
  std::vector<Finding> findings;  ///< at most 1000 are kept; see `finding_count`
  uint64_t finding_count = 0;
  std::vector<Finding> notes;  ///< worth knowing, but no errors
  uint64_t inodes = 0, directories = 0, nodes = 0, extents = 0;
  uint64_t data_bytes_verified = 0;  ///< all copies
  bool clean() const { return finding_count == 0; }
};

/// Errors: what Volume::open gives (the volume cannot be opened at all).
Result<CheckReport> check(Runtime& runtime, alloc::DeviceOpener& opener,
                          const std::vector<std::string>& paths, const CheckOptions& options);

}  // namespace moltfs::fs
