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

/// Opens the files that this and MemoryRoom read, and keeps them open from then on: a process in a
/// sandbox cannot open files. It then reads the limits of the cgroups in which it is now, as they
/// change.
void keep_memory_files();

/// The part of `limit` (bytes) that the cache of metadata gets by default: a quarter, at least 4 MiB
/// and at most 256 MiB. The rest is for written data, for requests and for a replace.
uint64_t default_cache_bytes(uint64_t limit);

/// The least limit of the cgroups of a process; nothing if there is none. `cgroups`: its
/// /proc/self/cgroup. `mounts`: where the cgroup filesystems are. `read`: the number in a file, if
/// there is one.
std::optional<uint64_t> cgroup_memory_limit(
    std::string_view cgroups, const std::vector<MountinfoEntry>& mounts,
    const std::function<std::optional<uint64_t>(const std::string& path)>& read);

/// What may still be written to files in memory, of the limits of the cgroups. Thread-safe.
class MemoryRoom {
 public:
  /// `kept_eighths`: how much of each limit is left for other uses.
  explicit MemoryRoom(unsigned kept_eighths) : kept_eighths_(kept_eighths) {}
  /// Takes `bytes` of it. False: there is not so much.
  bool take(uint64_t bytes);
  bool is_empty();

 private:
  void measure_if_old();  // REQUIRES: mutex_
  uint64_t measure() const;

  const unsigned kept_eighths_;
  std::mutex mutex_;
  uint64_t left_ = 0;
  std::chrono::steady_clock::time_point valid_until_;
};

/// To be called when a file in memory is opened for writing.
void uses_files_in_memory();
enum class MemoryUse { new_file, content };
/// True if this process writes to files in memory, and soon could be killed for that: what takes
/// space must be refused now, so that there is room for the commit of what was accepted before. New
/// files are refused earlier than content, because the kernel caches content: it may belong to a
/// write that has long succeeded.
bool memory_is_short_for(MemoryUse use);
/// Takes `bytes` of what commits may still write to files in memory. False: writing so much could
/// get this process killed.
bool take_memory_for_write(uint64_t bytes);

}  // namespace moltfs::alloc
