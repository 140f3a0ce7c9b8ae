// SPDX-License-Identifier: MIT
// Access times: the rules of Linux's relatime, noatime, strictatime.
#include "fs/times.h"

namespace moltfs::fs {
namespace {

constexpr int64_t kSecondsPerDay = 24 * 60 * 60;

bool is_due(const Core& core, const Inode& inode, Time now) {
  using Atime = Policy::Atime;
  const Policy policy = core.policy;
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

void note_access(Core& core, const Inode& inode) {
  if (core.options.read_only || !is_due(core, inode, core.now())) return;
  // From the reserve: nothing stays taken, and on a full volume reading must not wait for commits.
  (void)core.transactions.write(Budget{1, alloc::Urgency::reclaiming},
                                [&](Txn& txn) -> Result<void> {
                                  TRY(auto current, prepare_inode(txn, core.fs_tree(), inode.ino));
                                  const Time now = core.now();
                                  if (!is_due(core, current, now)) return ok();
                                  current.atime = now;
                                  store_inode(txn, core.fs_tree(), current);
                                  return ok();
                                });
}

bool note_access(Core& core, InodeNumber ino) {
  const auto inode = core.transactions.read(
      [&](Access& access) { return load_inode(access, core.fs_tree(), ino); });
  if (!inode || core.options.read_only || !is_due(core, inode.value(), core.now())) return false;
  note_access(core, inode.value());
  return true;
}

}  // namespace moltfs::fs
