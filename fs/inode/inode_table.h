// SPDX-License-Identifier: MIT
// Which inodes the kernel (or a test) holds: lookup references; and which of them are orphans.
#pragma once

#include <functional>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::fs {

/// Thread-safe; may be called in a critical section of Transactions (its mutex comes after that
/// one).
class InodeTable {
 public:
  explicit InodeTable(Runtime& runtime);
  /// One more reference. Taken in the critical section that found the inode alive.
  void take(InodeNumber ino);
  /// Gives `count` back. True if it was the last and the inode is an orphan: the caller has it
  /// removed.
  bool give_back(InodeNumber ino, uint64_t count);
  /// The inode has lost its last name. True if nobody holds it: the caller has it removed.
  bool make_orphan(InodeNumber ino);
  /// It has a name again (link of an unnamed file).
  void adopt(InodeNumber ino);
  bool is_held(InodeNumber ino) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<InodeNumber, uint64_t> references_;
  std::unordered_set<InodeNumber> orphans_;
};

}  // namespace moltfs::fs
