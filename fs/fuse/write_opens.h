// SPDX-License-Identifier: MIT
// Which inodes are open for writing. Only those can have dirty pages in the kernel's writeback
// cache (the kernel writes them back when a descriptor is closed), and only those can be written
// directly while the kernel reads pages into its cache. Thread-safe.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace moltfs::fs::fuse {

/// `flags`: those of open(2).
inline bool opens_for_writing(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}

class WriteOpens {
 public:
  /// `flags`: as in open(2). Each opened() is followed by one released() with the same flags.
  void opened(uint64_t ino, int flags) {
    if (!opens_for_writing(flags)) return;
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    if (++shard.inodes[ino].count == 1) ++count_;
  }
  void released(uint64_t ino, int flags) {
    if (!opens_for_writing(flags)) return;
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    if (found == shard.inodes.end() || --found->second.count > 0) return;
    shard.inodes.erase(found);
    --count_;
  }
  bool is_open(uint64_t ino) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    return shard.inodes.contains(ino);
  }
  uint64_t count() const { return count_; }
  /// All of them, ascending.
  std::vector<uint64_t> inodes() {
    std::vector<uint64_t> found;
    for (Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      for (const auto& [ino, state] : shard.inodes) found.push_back(ino);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  /// The file was written: the kernel does not know its number of blocks any more.
  void wrote(uint64_t ino) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    if (found != shard.inodes.end()) found->second.has_new_blocks = true;
  }
  /// True if wrote() was called since the last call of this.
  bool take_new_blocks(uint64_t ino) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    return found != shard.inodes.end() && std::exchange(found->second.has_new_blocks, false);
  }

  // ---- Setting the size. An asynchronous direct write does not keep the kernel from setting the
  // size meanwhile. With the writeback cache the kernel never asks for the size again, so such a
  // write must not make the file longer without the kernel's knowledge.

  /// Covers setting the size, up to just before the reply.
  class SizeChange {
   public:
    SizeChange(WriteOpens& opens, uint64_t ino) : opens_(opens), ino_(ino) {
      opens_.count_size_change(ino_, true);
    }
    ~SizeChange() { opens_.count_size_change(ino_, false); }
    SizeChange(const SizeChange&) = delete;
    SizeChange& operator=(const SizeChange&) = delete;

   private:
    WriteOpens& opens_;
    const uint64_t ino_;
  };
  /// Names a moment. 0: the size is being set.
  uint64_t size_moment(uint64_t ino) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    if (found == shard.inodes.end()) return 1;
    return found->second.sizes_being_set > 0 ? 0 : 1 + found->second.sizes_set;
  }
  /// True if the size was being set at `moment`, or has been set since. A write that makes the file
  /// longer on purpose never meets that: the kernel keeps its inode locked.
  bool size_was_set_since(uint64_t ino, uint64_t moment) {
    return moment == 0 || size_moment(ino) != moment;
  }
  /// The kernel has these bytes in its cache: it reads them, or writes them back. Call it before
  /// the content is read or written.
  void cached(uint64_t ino, uint64_t offset, uint64_t size) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    if (found == shard.inodes.end()) return;
    State& state = found->second;
    state.cached_from = std::min(state.cached_from, offset);
    state.cached_to = std::max(state.cached_to, offset + size);
  }
  /// True if the kernel may have got any of these bytes into its cache since the file was opened
  /// for writing. Call it when the new content is in place: later reads get that.
  bool may_be_cached(uint64_t ino, uint64_t offset, uint64_t size) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    return found != shard.inodes.end() && offset < found->second.cached_to &&
           found->second.cached_from < offset + size;
  }

 private:
  struct State {
    uint32_t count = 0;
    bool has_new_blocks = false;
    uint64_t sizes_set = 0;
    uint32_t sizes_being_set = 0;
    uint64_t cached_from = UINT64_MAX, cached_to = 0;  // contains all ranges given to cached()
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<uint64_t, State> inodes;  // guarded by mutex
  };
  void count_size_change(uint64_t ino, bool begins) {
    Shard& shard = shard_of(ino);
    std::lock_guard lock(shard.mutex);
    const auto found = shard.inodes.find(ino);
    if (found == shard.inodes.end()) return;
    State& state = found->second;
    if (begins) {
      ++state.sizes_set;
      ++state.sizes_being_set;
    } else if (state.sizes_being_set > 0) {
      --state.sizes_being_set;
    }
  }
  Shard& shard_of(uint64_t ino) { return shards_[ino % shards_.size()]; }

  std::array<Shard, 16> shards_;
  std::atomic<uint64_t> count_{0};
};

}  // namespace moltfs::fs::fuse
