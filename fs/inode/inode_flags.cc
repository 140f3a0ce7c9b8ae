// SPDX-License-Identifier: MIT
// Inode flags: setting and enforcing them.
#include "fs/inode/inode_flags.h"

namespace moltfs::fs {
namespace {

bool is_protected(const Inode& inode) {
  return inode.is_immutable() || inode.is_append_only();
}

Result<void> unless(bool forbidden) {
  if (forbidden) return Errc::not_permitted;
  return ok();
}

}  // namespace

Result<void> may_add_name(const Inode& directory) {
  return unless(directory.is_immutable());
}

Result<void> may_remove_name(const Inode& directory, const Inode& named) {
  return unless(is_protected(directory) || is_protected(named));
}

Result<void> may_be_linked(const Inode& inode) {
  return unless(is_protected(inode));
}

Result<void> may_change(const Inode& inode, const SetAttributes& set) {
  if (!is_protected(inode) || set.from_cache) return ok();
  if (set.mode || set.uid || set.gid) return Errc::not_permitted;
  // The kernel sends a late change of ctime together with the old mtime.
  const bool sets_mtime = set.mtime && *set.mtime != inode.mtime;
  if (inode.is_immutable()) {
    return unless(set.atime || sets_mtime || set.atime_now || set.mtime_now);
  }
  // The kernel keeps the mtime of files: "now" arrives as atime_now with a value for mtime.
  return unless(set.atime || (sets_mtime && !set.atime_now));
}

Result<void> may_change_xattrs(const Inode& inode) {
  return unless(is_protected(inode));
}

Result<void> may_open(FilesystemContext& context, InodeNumber ino, bool writes, bool appends) {
  if (!writes) return ok();
  TRY(const auto inode, context.transactions.read([&](Access& access) {
    return load_inode(access, context.fs_tree(), ino);
  }));
  return unless(inode.is_immutable() || (inode.is_append_only() && !appends));
}

uint32_t inherited_flags(const Inode& directory, bool is_directory) {
  const uint32_t by_all = kInodeNoDump | kInodeNoAtime;
  return directory.flags & (is_directory ? by_all | kInodeDirSync : by_all);
}

Result<Attributes> change_flags(FilesystemContext& context, InodeNumber ino, uint32_t flags,
                                uint32_t which) {
  if ((flags & ~which) != 0 || (which & ~kInodeSettable) != 0) return Errc::not_supported;
  const Budget budget{1, alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<Attributes> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    inode.flags = (inode.flags & ~which) | flags;
    inode.ctime = context.now();
    store_inode(txn, context.fs_tree(), inode);
    return inode.attributes();
  });
}

}  // namespace moltfs::fs
