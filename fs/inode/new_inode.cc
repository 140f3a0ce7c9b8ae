// SPDX-License-Identifier: MIT
// What a new inode inherits from its parent and gets from the caller.
#include "fs/inode/new_inode.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "fs/inode/acl.h"
#include "fs/inode/inode_flags.h"

namespace moltfs::fs {
namespace {

// The two inherited ACLs are prepared together, so they must not take the same slot.
constexpr unsigned kAccessSlot = 0;
constexpr unsigned kDefaultSlot = 1;

/// Applies the parent's default ACL to made.inode.mode; false if it has none.
Result<bool> inherit_acl(const FilesystemContext& context, Txn& txn, const Inode& parent,
                         NewInode& made) {
  TRY(auto stored, load_xattr(context, txn, parent.ino, kDefaultAclName));
  if (!stored) return false;
  auto parsed = Acl::parse(*stored);
  if (!parsed || parsed.value().empty()) {
    return Error(Errc::bad_item,
                 "inode " + std::to_string(parent.ino.value) + ": its default ACL is not valid");
  }
  Acl acl = std::move(parsed).value();
  const InodeNumber ino = made.inode.ino;
  made.inode.mode = acl.inherit(made.inode.mode);
  if (acl.is_extended()) {
    TRY(made.access_acl,
        XattrChange::prepare(context, txn, ino, kAccessAclName, acl.encode(), kAccessSlot));
  }
  if (made.inode.is_directory()) {
    TRY(made.default_acl,
        XattrChange::prepare(context, txn, ino, kDefaultAclName, *stored, kDefaultSlot));
  }
  return true;
}

/// A new inode must not inherit items that a damaged tree holds under its number.
Result<void> require_unused(const FilesystemContext& context, Txn& txn, InodeNumber ino) {
  TRY(const auto item, context.fs_tree().at_or_after(txn, {ino.value, 0, 0}));
  if (!item || item->key.object != ino.value) return ok();
  return Error(Errc::bad_item,
               fmt::format("inode number {} is the next one, but has items already", ino.value));
}

}  // namespace

Result<NewInode> NewInode::prepare(const FilesystemContext& context, Txn& txn, const Inode& parent,
                                   uint32_t mode, const Caller& caller, const Time& now) {
  NewInode made;
  Inode& inode = made.inode;
  inode.ino = InodeNumber{txn.counters().next_inode};
  if (!is_inode_number(inode.ino)) return Error(Errc::no_space, "no inode number is left");
  TRY(require_unused(context, txn, inode.ino));
  inode.generation = context.inode_generation;
  inode.mode = mode;
  inode.uid = caller.uid;
  inode.gid = caller.gid;
  inode.links = inode.is_directory() ? 2 : 1;
  inode.flags = inherited_flags(parent, inode.is_directory());
  inode.atime = inode.mtime = inode.ctime = inode.btime = now;
  if (inode.is_directory()) inode.parent = parent.ino;
  if ((parent.mode & S_ISGID) != 0) {
    inode.gid = parent.gid;
    if (inode.is_directory()) inode.mode |= S_ISGID;
  }
  if (!inode.is_symlink()) {
    TRY(const bool has_acl, inherit_acl(context, txn, parent, made));
    if (!has_acl) inode.mode &= ~(caller.umask & 0777u);
  }
  TRY(context.fs_tree().prepare(txn, inode_key(inode.ino), Tree::Intent::put));
  return made;
}

void NewInode::apply(const FilesystemContext& context, Txn& txn) const {
  FsCounters& counters = txn.counters_for_change();
  counters.next_inode = inode.ino.value + 1;
  ++counters.inode_count;
  store_inode(txn, context.fs_tree(), inode);
  if (access_acl) access_acl->apply(context, txn);
  if (default_acl) default_acl->apply(context, txn);
}

}  // namespace moltfs::fs
