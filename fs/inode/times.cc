// SPDX-License-Identifier: MIT
// Access times: the rules of Linux's relatime, noatime, strictatime.
#include "fs/inode/times.h"

namespace moltfs::fs {
namespace {

constexpr int64_t kSecondsPerDay = 24 * 60 * 60;

bool is_due(const FilesystemContext& context, const Inode& inode, Time now) {
  using Atime = Policy::Atime;
  const Policy policy = context.policy;
  if ((inode.flags & kInodeNoAtime) != 0) return false;
  if (inode.is_directory() && !policy.directory_atime) return false;
  switch (policy.atime) {
    case Atime::never:
      return false;
    case Atime::strict:
      return inode.atime != now;
    case Atime::relative:
      return inode.atime <= inode.mtime || inode.atime <= inode.ctime ||
             now.seconds - inode.atime.seconds >= kSecondsPerDay;
  }
  return false;
}

}  // namespace

void note_access(FilesystemContext& context, const Inode& inode) {
  if (context.options.read_only || !is_due(context, inode, context.now())) return;
  // From the reserve: nothing stays taken, and on a full volume reading must not wait for commits.
  (void)context.transactions.write(
      Budget{1, alloc::ReserveClass::reclaiming}, [&](Txn& txn) -> Result<void> {
        TRY(auto current, prepare_inode(txn, context.fs_tree(), inode.ino));
        const Time now = context.now();
        if (!is_due(context, current, now)) return ok();
        current.atime = now;
        store_inode(txn, context.fs_tree(), current);
        return ok();
      });
}

bool note_access(FilesystemContext& context, InodeNumber ino) {
  const auto inode = context.transactions.read(
      [&](Access& access) { return load_inode(access, context.fs_tree(), ino); });
  if (!inode || context.options.read_only || !is_due(context, inode.value(), context.now()))
    return false;
  note_access(context, inode.value());
  return true;
}

}  // namespace moltfs::fs
