// SPDX-License-Identifier: MIT
// Inside fs only: a new inode within a larger operation: its number, owner, mode and
// inherited ACLs.
#pragma once

#include <optional>

#include "fs/inode/context.h"
#include "fs/inode/xattrs.h"

namespace moltfs::fs {

/// Prepared first, applied with the rest of the operation.
struct NewInode {
  /// Item changes that one takes: the inode, two ACLs.
  static constexpr unsigned kItemChanges = 3;

  Inode inode;  ///< the caller may still change it before apply()
  std::optional<XattrChange> access_acl, default_acl;

  /// `mode` with type. Directories inherit set-gid from `parent`, everything in a set-gid directory
  /// its group; the parent's default ACL, or else the umask, limits the permissions (symlinks:
  /// neither). One link, two for a directory.
  static Result<NewInode> prepare(const FilesystemContext& context, Txn& txn, const Inode& parent,
                                  uint32_t mode, const Caller& caller, const Time& now);
  void apply(const FilesystemContext& context, Txn& txn) const;
};

}  // namespace moltfs::fs
