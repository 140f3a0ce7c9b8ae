// SPDX-License-Identifier: MIT
// Inside fs only: what the parts of Filesystem share. filesystem.cc is a thin front that calls the
// parts: inode, directory, xattr, acl, orphans (names); extents, content, allocate (bytes).
#pragma once

#include <atomic>
#include <functional>

#include "fs/inode/inode.h"
#include "fs/inode/inode_table.h"
#include "fs/inode/range_lock.h"
#include "fs/tree/transaction.h"
#include "fs/types.h"

namespace moltfs::fs {

struct FilesystemContext {
  FilesystemContext(Runtime& r, Transactions& t, const FilesystemOptions& o)
      : runtime(r),
        transactions(t),
        options(o),
        inode_generation(1 + (r.random() & 0x7fffffff)),
        policy(o.policy),
        inodes(r),
        ranges(r) {}

  Runtime& runtime;
  Transactions& transactions;
  const FilesystemOptions options;
  /// Of the inodes made during this mount: a number that a crash let go and the next mount uses
  /// again is another inode to whoever kept a handle.
  const uint64_t inode_generation;
  std::atomic<Policy> policy;
  /// Gives an orphan that nobody holds to the background task. Callable in a critical section.
  std::function<void(InodeNumber)> reclaim;
  /// A name was changed in a directory whose names are durable at once (kInodeDirSync). Until then
  /// nobody has to look whether one is.
  std::atomic<bool> met_synced_directory{false};
  InodeTable inodes;  ///< lookup references, live orphans
  RangeLocks ranges;

  Time now() {
    const timespec t = runtime.wall_clock();
    return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
  }
  const Tree& fs_tree() const { return transactions.fs_tree(); }
  const Tree& extent_tree() const { return transactions.extent_tree(); }
};

}  // namespace moltfs::fs
