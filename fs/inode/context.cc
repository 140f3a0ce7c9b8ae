// SPDX-License-Identifier: MIT
// Access times: the rules of Linux's relatime, noatime, strictatime.
#include "fs/inode/context.h"

namespace moltfs::fs {
namespace {

constexpr int64_t kSecondsPerDay = 24 * 60 * 60;

}  // namespace

bool FilesystemContext::atime_is_due(const Inode& inode, Time now) const {
  using Atime = Policy::Atime;
  const Policy rules = policy;
  if ((inode.flags & kInodeNoAtime) != 0) return false;
  if (inode.is_directory() && !rules.directory_atime) return false;
  switch (rules.atime) {
    case Atime::never:
      return false;
    case Atime::strict:
      return inode.atime != now;
    case Atime::relative:
      return inode.atime <= inode.mtime || inode.atime <= inode.ctime ||
             inode.atime.seconds <= now.seconds - kSecondsPerDay;
  }
  return false;
}

void FilesystemContext::note_access(const Inode& inode) {
  if (options.read_only || !atime_is_due(inode, now())) return;
  // From the reserve: it takes no space for good, and on a full volume a read must not wait
  // for commits.
  const Budget budget{1, alloc::ReserveClass::reclaiming};
  (void)transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto current, prepare_inode(txn, fs_tree(), inode.ino));
    const Time time = now();
    if (!atime_is_due(current, time)) return ok();
    current.atime = time;
    store_inode(txn, fs_tree(), current);
    return ok();
  });
}

bool FilesystemContext::note_access(InodeNumber ino) {
  const auto inode =
      transactions.read([&](Access& access) { return load_inode(access, fs_tree(), ino); });
  if (!inode || options.read_only || !atime_is_due(inode.value(), now())) return false;
  note_access(inode.value());
  return true;
}

}  // namespace moltfs::fs
