// SPDX-License-Identifier: MIT
// Attributes: chmod with ACLs, chown, times, rules for set-id bits.
#include "fs/attributes.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <optional>

#include "fs/content/content.h"
#include "fs/inode/acl.h"
#include "fs/inode/inode_flags.h"
#include "fs/inode/xattrs.h"

namespace moltfs::fs {
namespace {

// The inode, its ACL, its capability.
constexpr Budget kAttributeBudget{3, alloc::ReserveClass::reclaiming};

bool kills_suidgid(const Inode& inode, const SetAttributes& set) {
  if (inode.is_directory()) return false;
  return set.kill_suidgid || ((set.uid || set.gid) && !set.mode);
}

bool kills_capability(const Inode& inode, const SetAttributes& set) {
  return !inode.is_directory() && (set.kill_suidgid || set.uid || set.gid);
}

/// Applies all of `set` except the size.
void apply_to_inode(Inode& inode, const SetAttributes& set, const Time& now) {
  if (set.mode) inode.mode = (inode.mode & S_IFMT) | (*set.mode & 07777u);
  if (kills_suidgid(inode, set))
    inode.mode = mode_after_kill_suidgid(inode.mode, set.outside_group);
  if (set.uid) inode.uid = *set.uid;
  if (set.gid) inode.gid = *set.gid;
  inode.ctime = set.ctime.value_or(now);
  // All "now" times are the same: the kernel's ctime, if it gave one.
  if (set.atime_now) inode.atime = inode.ctime;
  if (set.atime) inode.atime = *set.atime;
  if (set.mtime_now) inode.mtime = inode.ctime;
  if (set.mtime) inode.mtime = *set.mtime;
}

/// The change of the access ACL that belongs to the new mode; nothing without an access ACL.
Result<std::optional<XattrChange>> prepare_acl_chmod(const FilesystemContext& context, Txn& txn,
                                                     InodeNumber ino, uint32_t mode) {
  TRY(auto stored, load_xattr(context, txn, ino, kAccessAclName));
  if (!stored) return std::optional<XattrChange>{};
  auto acl = Acl::parse(*stored);
  if (!acl || acl.value().empty()) {
    return Error(Errc::bad_item, "inode " + std::to_string(ino.value) + ": its ACL is not valid");
  }
  acl.value().set_mode_bits(mode);
  TRY(auto change, XattrChange::prepare(context, txn, ino, kAccessAclName, acl.value().encode()));
  if (change.item_changes() != 1) {
    return Error(Errc::bad_item, fmt::format("inode {}: its ACL has several parts", ino.value));
  }
  return std::optional(std::move(change));
}

/// A capability has a few dozen bytes, hence one item. A longer value, which no kernel accepts as a
/// capability, stays.
Result<std::optional<XattrChange>> prepare_kill_capability(const FilesystemContext& context,
                                                           Txn& txn, InodeNumber ino) {
  TRY(auto change, XattrChange::prepare(context, txn, ino, kCapabilityName, std::nullopt));
  if (!change.existed() || change.item_changes() != 1) return std::optional<XattrChange>{};
  return std::optional(std::move(change));
}

/// Applies everything except the size, in one critical section.
Result<Inode> apply_all(FilesystemContext& context, InodeNumber ino, const SetAttributes& set) {
  return context.transactions.write(kAttributeBudget, [&](Txn& txn) -> Result<Inode> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(may_change(inode, set));
    std::optional<XattrChange> acl, capability;
    if (set.mode && !inode.is_symlink()) {
      TRY(acl, prepare_acl_chmod(context, txn, ino, *set.mode));
    }
    if (kills_capability(inode, set)) {
      TRY(capability, prepare_kill_capability(context, txn, ino));
    }
    apply_to_inode(inode, set, context.now());
    if (acl) acl->apply(context, txn);
    if (capability) capability->apply(context, txn);
    store_inode(txn, context.fs_tree(), inode);
    return inode;
  });
}

Result<void> check_times(const SetAttributes& set) {
  for (const auto* time : {&set.atime, &set.mtime, &set.ctime}) {
    if (*time && (*time)->nanoseconds >= 1'000'000'000) return Errc::invalid_argument;
  }
  return ok();
}

}  // namespace

Result<Attributes> load_attributes(FilesystemContext& context, InodeNumber ino) {
  return context.transactions.read([&](Access& access) -> Result<Attributes> {
    TRY(auto inode, load_inode(access, context.fs_tree(), ino));
    return inode.attributes();
  });
}

Result<Attributes> take_by_number(FilesystemContext& context, InodeNumber ino,
                                  uint64_t generation) {
  return context.transactions.read([&](Access& access) -> Result<Attributes> {
    auto inode = load_inode(access, context.fs_tree(), ino);
    if (!inode) {
      if (inode.error().code == Errc::not_found) return Errc::stale_handle;
      return inode.error();
    }
    const Inode& found = inode.value();
    if (generation != 0 && found.generation != generation) return Errc::stale_handle;
    if (found.links == 0 && !context.inodes.is_held(ino)) return Errc::stale_handle;
    context.inodes.take(ino);
    return found.attributes();
  });
}

Result<Attributes> change_attributes(FilesystemContext& context, InodeNumber ino,
                                     const SetAttributes& set) {
  TRY(check_times(set));
  if (!set.size) {
    TRY(auto inode, apply_all(context, ino, set));
    return inode.attributes();
  }
  if (*set.size > kMaxFileBytes) return Errc::file_too_large;
  TRY(auto before, load_attributes(context, ino));
  if (S_ISDIR(before.mode)) return Errc::is_a_directory;
  if (!S_ISREG(before.mode)) return Errc::invalid_argument;
  if ((before.flags & (kInodeImmutable | kInodeAppendOnly)) != 0) return Errc::not_permitted;
  if (set.mode || set.kill_suidgid || set.uid || set.gid) {
    // Changes of attributes besides the inode come first, so that privileges are cleared before the
    // content changes.
    TRY(apply_all(context, ino, set));
  }
  SetAttributes also = set;
  also.mtime_now = set.mtime_now || !set.mtime;
  TRY(truncate_content(context, ino, *set.size,
                       [&](Inode& inode) { apply_to_inode(inode, also, context.now()); }));
  return load_attributes(context, ino);
}

uint32_t mode_after_kill_suidgid(uint32_t mode, bool outside_group) {
  mode &= ~static_cast<uint32_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0 || outside_group) mode &= ~static_cast<uint32_t>(S_ISGID);
  return mode;
}

Result<void> kill_suidgid(FilesystemContext& context, InodeNumber ino, bool outside_group) {
  const auto has_some = [&](Access& access) -> Result<bool> {
    TRY(auto inode, load_inode(access, context.fs_tree(), ino));
    if (mode_after_kill_suidgid(inode.mode, outside_group) != inode.mode) return true;
    TRY(auto capability, load_xattr(context, access, ino, kCapabilityName));
    return capability.has_value();
  };
  TRY(const bool needed, context.transactions.read(has_some));
  if (!needed) return ok();
  SetAttributes set;
  set.kill_suidgid = true;
  set.outside_group = outside_group;
  TRY(apply_all(context, ino, set));
  return ok();
}

}  // namespace moltfs::fs
