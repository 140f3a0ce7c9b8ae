// SPDX-License-Identifier: MIT
// The inodes that the kernel (or a test) holds by lookup references, and which of them are orphans.
#pragma once

#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "alloc/base/strong_types.h"

namespace moltfs::fs {

/// Takes the orphans that are no longer held, to remove them (fs/reclaimer.h).
class OrphanSink {
 public:
  /// May be called in a critical section of Transactions.
  virtual void add(InodeNumber ino) = 0;

 protected:
  ~OrphanSink() = default;
};

/// Thread-safe. May be used in a critical section of Transactions.
class InodeTable {
 public:
  explicit InodeTable(OrphanSink& orphan_sink) : orphan_sink_(orphan_sink) {}
  /// Takes one reference. REQUIRES: called in the critical section that found the inode alive.
  void take(InodeNumber ino);
  /// Gives `count` references back. An orphan without references is passed to the sink.
  void release(InodeNumber ino, uint64_t count);
  /// The inode has lost its last name. Without references it is passed to the sink.
  void make_orphan(InodeNumber ino);
  /// The orphan has got a name (link of an unnamed file).
  void adopt(InodeNumber ino);
  bool is_held(InodeNumber ino) const;

 private:
  OrphanSink& orphan_sink_;
  mutable std::mutex mutex_;
  std::unordered_map<InodeNumber, uint64_t> references_;
  std::unordered_set<InodeNumber> orphans_;
};

}  // namespace moltfs::fs
