// SPDX-License-Identifier: MIT
// Inside fs only: what the parts of Filesystem share.
#pragma once

#include <atomic>

#include "fs/inode/inode.h"
#include "fs/inode/inode_table.h"
#include "fs/inode/range_lock.h"
#include "fs/tree/transaction.h"
#include "fs/types.h"

namespace moltfs::fs {

struct FilesystemContext {
  FilesystemContext(Runtime& r, Transactions& t, const FilesystemOptions& o, OrphanSink& sink)
      : runtime(r),
        transactions(t),
        options(o),
        inode_generation(1 + (r.random() & 0x7fffffff)),
        policy(o.policy),
        inodes(sink),
        ranges(r) {}

  Runtime& runtime;
  Transactions& transactions;
  const FilesystemOptions options;
  /// The generation of inodes made during this mount. After a crash an inode number may be used
  /// again; the generation makes handles of the old inode stale.
  const uint64_t inode_generation;
  std::atomic<Policy> policy;
  /// Set once a change of names has met a directory with kInodeDirSync. Until then no operation
  /// needs to check for that flag.
  std::atomic<bool> met_synced_directory{false};
  InodeTable inodes;  ///< lookup references, orphans that are held
  RangeLocks ranges;

  Time now() {
    const timespec t = runtime.wall_clock();
    return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)};
  }
  const Tree& fs_tree() const { return transactions.fs_tree(); }
  const Tree& extent_tree() const { return transactions.extent_tree(); }

  /// `inode` was read: moves its atime to now if the policy says so (relatime: only if it is
  /// not later than mtime and ctime, or a day old). Takes a critical section if it does.
  /// Ignores errors.
  void note_access(const Inode& inode);
  /// The same by number; true if atime has moved.
  bool note_access(InodeNumber ino);

 private:
  bool atime_is_due(const Inode& inode, Time now) const;
};

}  // namespace moltfs::fs
