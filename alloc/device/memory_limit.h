// SPDX-License-Identifier: MIT
// How much memory this process may use. A process that uses more than its cgroup allows is killed.
// The pages of a file on a tmpfs count for the process that writes them first, too.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {

/// The memory that this process may use, in bytes: the least of the machine's memory, the limits of
/// its cgroup and of all cgroups above it (memory.max and memory.high, or memory.limit_in_bytes of
/// version 1), and its own limits (RLIMIT_AS, RLIMIT_DATA). What cannot be read limits nothing.
uint64_t memory_limit();

/// The part of `limit` (bytes) that the cache of metadata gets by default: a quarter, at least 4 MiB
/// and at most 256 MiB. The rest is for written data, for requests and for a replace.
uint64_t default_cache_bytes(uint64_t limit);

/// The least limit of the cgroups of a process; nothing if there is none. `cgroups`: its
/// /proc/self/cgroup. `mounts`: where the cgroup filesystems are. `read`: the number in a file, if
/// there is one.
std::optional<uint64_t> cgroup_memory_limit(
    std::string_view cgroups, const std::vector<MountinfoEntry>& mounts,
    const std::function<std::optional<uint64_t>(const std::string& path)>& read);

/// What may still be written to files in memory. A quarter of the limit of each cgroup is left for
/// the process itself. Thread-safe.
class MemoryRoom {
 public:
  /// Takes `bytes` of it. False: writing so much more could get this process killed.
  bool take(uint64_t bytes);

 private:
  uint64_t measure() const;

  std::mutex mutex_;
  uint64_t left_ = 0;
  std::chrono::steady_clock::time_point valid_until_;
};

}  // namespace moltfs::alloc
