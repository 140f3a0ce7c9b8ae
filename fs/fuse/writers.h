// SPDX-License-Identifier: MIT
// Which inodes are open for writing: only those can have pages in the kernel's writeback cache that
// this filesystem has not seen yet (the kernel writes them back when a descriptor is closed).
#pragma once

#include <fcntl.h>

#include <array>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace moltfs::fs::fuse {

class Writers {
 public:
  /// `flags`: as in open(2). Each opened() is followed by one released() with the same flags.
  void opened(uint64_t ino, int flags) {
    if (!writes(flags)) return;
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    ++shard.counts[ino];
  }
  void released(uint64_t ino, int flags) {
    if (!writes(flags)) return;
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.counts.find(ino);
    if (found != shard.counts.end() && --found->second == 0) shard.counts.erase(found);
  }
  bool any(uint64_t ino) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    return shard.counts.contains(ino);
  }

 private:
  struct Shard {
    std::mutex mutex;
    std::unordered_map<uint64_t, uint32_t> counts;  // guarded by mutex
  };
  static bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }
  Shard& shard_of(uint64_t ino) { return shards_[ino % shards_.size()]; }

  std::array<Shard, 16> shards_;
};

}  // namespace moltfs::fs::fuse
