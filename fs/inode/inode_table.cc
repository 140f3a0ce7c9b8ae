// SPDX-License-Identifier: MIT
// Counts of lookup references and the set of orphans among the inodes in use.
#include "fs/inode/inode_table.h"

#include <algorithm>

namespace moltfs::fs {

InodeTable::InodeTable(Runtime&) {}

void InodeTable::take(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  ++references_[ino];
}

bool InodeTable::give_back(InodeNumber ino, uint64_t count) {
  std::lock_guard lock(mutex_);
  auto held = references_.find(ino);
  if (held == references_.end()) return false;  // more forgotten than looked up: the kernel's slip
  held->second -= std::min(held->second, count);
  if (held->second != 0) return false;
  references_.erase(held);
  return orphans_.erase(ino) != 0;
}

bool InodeTable::make_orphan(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  if (!references_.contains(ino)) return true;
  orphans_.insert(ino);
  return false;
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
