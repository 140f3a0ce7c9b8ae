// SPDX-License-Identifier: MIT
// The value types of Filesystem's interface.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "alloc/base/strong_types.h"
#include "fs/policy.h"

namespace moltfs::fs {

struct Time {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
  auto operator<=>(const Time&) const = default;
};

struct Attributes {
  InodeNumber ino;
  uint64_t generation = 0;
  uint32_t mode = 0;  ///< type and permissions
  uint32_t links = 0;
  uint32_t uid = 0, gid = 0;
  uint64_t device = 0;  ///< major << 32 | minor
  uint64_t size = 0;    ///< bytes; directories: sum of name lengths + a constant per entry
  uint64_t allocated_bytes = 0;
  InodeNumber parent;  ///< directories; for ".."
  uint32_t flags = 0;  ///< kInodeSettable
  Time atime, mtime, ctime, btime;
};

/// The caller of an operation; owns the inodes that it makes.
struct Caller {
  uint32_t uid = 0, gid = 0;
  uint32_t umask = 0;
};

struct SetAttributes {
  std::optional<uint32_t> mode;  ///< permission bits
  std::optional<uint32_t> uid, gid;
  std::optional<uint64_t> size;
  std::optional<Time> atime, mtime, ctime;
  bool atime_now = false, mtime_now = false;
  bool kill_suidgid =
      false;  ///< clear set-id bits and security.capability (write, truncate, chown)
  bool outside_group = false;  ///< ... the set-gid bit even if the group may not execute
  bool from_cache = false;     ///< times of cached writes: inode flags do not forbid them
};

struct DirEntry {
  InodeNumber ino;
  uint8_t type = 0;  ///< DT_*
  std::string name;
  uint64_t cookie = 0;  ///< where to continue after this entry
};

struct Statistics {
  uint64_t block_bytes = kBlockSize;
  uint64_t total_bytes = 0, free_bytes = 0, available_bytes = 0;
  uint64_t inode_count = 0, free_inode_count = 0;
};

enum class RenameMode : uint8_t { replace, no_replace, exchange, whiteout };
/// create: the attribute must not exist. replace: it must exist. neither: both, so it always fails.
enum class XattrMode : uint8_t { any, create, replace, neither };
enum class SeekWhence : uint8_t { data, hole };
/// As in fallocate(2). zero_range and allocate may keep the size; punch_hole always does.
enum class AllocateMode : uint8_t { allocate, punch_hole, zero_range };

/// How to write (Filesystem::write).
struct WriteFlags {
  bool append = false;
  bool kill_suidgid = false;
  bool outside_group = false;
  bool keep_times = false;  ///< from the kernel's writeback cache, which sets the times itself
  /// Asked when the range is locked. True: the size was set while the write was on its way. Then it
  /// counts as done before that: what lies past the end of the file now is dropped.
  std::function<bool()> overtaken = nullptr;
};

/// Called for each entry of a directory (Filesystem::read_directory).
using DirVisitor = std::function<bool(const DirEntry&, const Attributes*)>;

/// How a filesystem is opened.
struct FilesystemOptions {
  bool read_only = false;
  Policy policy;
  /// For tests: only these bits of directory entries' hashes count, so that they collide.
  uint64_t name_hash_mask = ~uint64_t{0};
};

}  // namespace moltfs::fs
