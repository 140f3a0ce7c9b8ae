// SPDX-License-Identifier: MIT
// Inside fs only: creates an inode within a larger operation, with its number, owner, mode and
// inherited ACLs.
#pragma once

#include <optional>

#include "fs/inode/context.h"
#include "fs/inode/xattrs.h"

namespace moltfs::fs {

/// First prepared, then applied with the rest of the operation.
struct NewInode {
  /// Item changes: the inode, two ACLs.
  static constexpr unsigned kItemChanges = 3;

  Inode inode;  ///< the caller may still change it before apply()
  std::optional<XattrChange> access_acl, default_acl;

  /// `mode` includes the type. In a set-gid directory every inode inherits the group, and
  /// directories also the set-gid bit. The parent's default ACL, or else the umask, limits the
  /// permissions (of symlinks: neither). The inode has one link, a directory two. Errors:
  /// node_missing, bad_item, no_space.
  static Result<NewInode> prepare(const FilesystemContext& context, Txn& txn, const Inode& parent,
                                  uint32_t mode, const Caller& caller, const Time& now);
  void apply(const FilesystemContext& context, Txn& txn) const;
};

}  // namespace moltfs::fs
