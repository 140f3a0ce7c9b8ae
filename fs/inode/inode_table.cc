// SPDX-License-Identifier: MIT
// Lookup references, and the orphans among the inodes that are held.
#include "fs/inode/inode_table.h"

#include <algorithm>

namespace moltfs::fs {

void InodeTable::take(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  ++references_[ino];
}

void InodeTable::release(InodeNumber ino, uint64_t count) {
  {
    std::lock_guard lock(mutex_);
    auto held = references_.find(ino);
    if (held == references_.end()) return;  // the kernel forgot it more often than it looked it up
    held->second -= std::min(held->second, count);
    if (held->second != 0) return;
    references_.erase(held);
    if (orphans_.erase(ino) == 0) return;
  }
  orphan_sink_.add(ino);
}

void InodeTable::make_orphan(InodeNumber ino) {
  {
    std::lock_guard lock(mutex_);
    if (references_.contains(ino)) {
      orphans_.insert(ino);
      return;
    }
  }
  orphan_sink_.add(ino);
}

void InodeTable::adopt(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  orphans_.erase(ino);
}

bool InodeTable::is_held(InodeNumber ino) const {
  std::lock_guard lock(mutex_);
  return references_.contains(ino);
}

}  // namespace moltfs::fs
