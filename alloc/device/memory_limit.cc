// SPDX-License-Identifier: MIT
// Reading the limits of cgroups; the kernel's Documentation/admin-guide/cgroup-v2.rst and
// cgroup-v1/memory.rst describe the files.
#include "alloc/device/memory_limit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <sstream>

#include "alloc/base/descriptor.h"
#include "alloc/base/small_file.h"

namespace moltfs::alloc {
namespace {

/// How long a measurement is used. What other processes of the cgroup take meanwhile is not noticed.
constexpr auto kValidFor = std::chrono::milliseconds(20);
constexpr uint64_t kLeastCache = 4 << 20, kMostCache = 256 << 20;

std::atomic<bool> has_files_in_memory{false};
std::atomic<bool> keeps_files{false};

/// Files that are open once they were read, if keep_memory_files() was called. Thread-safe.
class KeptFiles {
 public:
  /// The content of the file; nothing if it cannot be read.
  std::optional<std::string> read(const std::string& path) {
    if (!keeps_files) return read_small_file(path);
    std::lock_guard lock(mutex_);
    auto& file = files_[path];
    if (file) {
      if (auto text = read_small_file(file.get())) return text;
    }
    // Not opened yet, or its cgroup was removed, and there may be another of that name.
    file = Descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return file ? read_small_file(file.get()) : std::nullopt;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Descriptor> files_;
};

std::optional<std::string> read_kept(const std::string& path) {
  static KeptFiles& files = *new KeptFiles;
  return files.read(path);
}

std::optional<uint64_t> kept_number(const std::string& path) {
  const auto text = read_kept(path);
  return text ? leading_number(*text) : std::nullopt;
}

std::vector<MountinfoEntry> mounts() {
  return parse_mountinfo(read_kept("/proc/self/mountinfo").value_or(""));
}

bool names(std::string_view list, std::string_view word) {
  return fmt::format(",{},", list).find(fmt::format(",{},", word)) != std::string::npos;
}

/// A line of /proc/self/cgroup: "ID:CONTROLLERS:PATH"; version 2 has "0::PATH".
struct Membership {
  bool is_version_2;
  std::string path;
};

std::vector<Membership> memory_cgroups(std::string_view cgroups) {
  std::vector<Membership> found;
  std::istringstream lines{std::string(cgroups)};
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool is_version_2 = controllers.empty() && line.substr(0, first) == "0";
    if (!is_version_2 && !names(controllers, "memory")) continue;
    found.push_back({is_version_2, line.substr(second + 1)});
  }
  return found;
}

bool can_hold(const MountinfoEntry& mount, bool version_2) {
  if (version_2) return mount.type == "cgroup2";
  return mount.type == "cgroup" && names(mount.options, "memory");
}

/// Of a cgroup.
struct Directory {
  std::string path;
  bool is_version_2;
};

/// The own cgroups and those above them, up to the mount point. A container may see only a part of
/// the hierarchy, mounted as a whole: then only some of these directories exist, or none but the
/// mount point.
std::vector<Directory> directories_of(std::string_view cgroups,
                                      const std::vector<MountinfoEntry>& mounts) {
  std::vector<Directory> found;
  for (const Membership& own : memory_cgroups(cgroups)) {
    for (const MountinfoEntry& mount : mounts) {
      if (!can_hold(mount, own.is_version_2)) continue;
      std::string path = own.path;
      for (;;) {
        while (path.ends_with('/')) path.pop_back();
        found.push_back({mount.mountpoint + path, own.is_version_2});
        if (path.empty()) break;
        path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
      }
    }
  }
  return found;
}

template <class Read>
std::optional<uint64_t> limit_of(const Directory& directory, const Read& read) {
  if (!directory.is_version_2) return read(directory.path + "/memory.limit_in_bytes");
  const std::optional<uint64_t> max = read(directory.path + "/memory.max");
  const std::optional<uint64_t> high = read(directory.path + "/memory.high");
  return max && high ? std::min(*max, *high) : max ? max : high;
}

/// Pages of files on disks, which the kernel drops before it kills a process.
uint64_t reclaimable_bytes(const Directory& directory) {
  const std::string prefix = directory.is_version_2 ? "" : "total_";
  std::istringstream words(read_kept(directory.path + "/memory.stat").value_or(""));
  uint64_t sum = 0, bytes = 0;
  for (std::string name; words >> name >> bytes;) {
    if (name == prefix + "inactive_file" || name == prefix + "active_file") sum += bytes;
  }
  return sum;
}

}  // namespace

std::optional<uint64_t> cgroup_memory_limit(
    std::string_view cgroups, const std::vector<MountinfoEntry>& mounts,
    const std::function<std::optional<uint64_t>(const std::string& path)>& read) {
  std::optional<uint64_t> least;
  for (const Directory& directory : directories_of(cgroups, mounts)) {
    const auto limit = limit_of(directory, read);
    if (limit && (!least || *limit < *least)) least = limit;
  }
  return least;
}

bool MemoryRoom::take(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  measure_if_old();
  if (left_ < bytes) left_ = measure();
  if (left_ < bytes) return false;
  left_ -= bytes;
  return true;
}

bool MemoryRoom::is_empty() {
  std::lock_guard lock(mutex_);
  measure_if_old();
  return left_ == 0;
}

void MemoryRoom::measure_if_old() {
  const auto now = std::chrono::steady_clock::now();
  if (now < valid_until_) return;
  left_ = measure();
  valid_until_ = now + kValidFor;
}

uint64_t MemoryRoom::measure() const {
  uint64_t least = UINT64_MAX;
  const auto cgroups = read_kept("/proc/self/cgroup");
  if (!cgroups) return least;
  for (const Directory& directory : directories_of(*cgroups, mounts())) {
    const auto limit = limit_of(directory, kept_number);
    const auto used = kept_number(
        directory.path + (directory.is_version_2 ? "/memory.current" : "/memory.usage_in_bytes"));
    if (!limit || !used) continue;
    const uint64_t usable = *limit - *limit / 8 * kept_eighths_ + reclaimable_bytes(directory);
    least = std::min(least, usable - std::min(usable, *used));
  }
  return least;
}

void uses_files_in_memory() {
  has_files_in_memory = true;
}

bool memory_is_short_for(MemoryUse use) {
  // A commit writes at most what may be dirty in memory: half of the cache, twice, which by default
  // is a quarter of the limit.
  static MemoryRoom& for_content = *new MemoryRoom(3);
  static MemoryRoom& for_files = *new MemoryRoom(4);
  if (!has_files_in_memory.load(std::memory_order_relaxed)) return false;
  return (use == MemoryUse::content ? for_content : for_files).is_empty();
}

bool take_memory_for_write(uint64_t bytes) {
  static MemoryRoom& room = *new MemoryRoom(1);
  return room.take(bytes);
}

uint64_t memory_limit() {
  struct sysinfo info {};
  uint64_t limit = UINT64_MAX;
  if (sysinfo(&info) == 0) limit = uint64_t{info.totalram} * info.mem_unit;
  if (const auto cgroups = read_kept("/proc/self/cgroup")) {
    const auto of_cgroups = cgroup_memory_limit(*cgroups, mounts(), kept_number);
    limit = std::min(limit, of_cgroups.value_or(limit));
  }
  for (const auto resource : {RLIMIT_AS, RLIMIT_DATA}) {
    struct rlimit own {};
    if (getrlimit(resource, &own) == 0) limit = std::min<uint64_t>(limit, own.rlim_cur);
  }
  return limit;
}

void keep_memory_files() {
  keeps_files = true;
  (void)memory_limit();
  // Files with the use of each cgroup; a target in memory may come later.
  for (const Directory& directory :
       directories_of(read_kept("/proc/self/cgroup").value_or(""), mounts())) {
    (void)kept_number(directory.path +
                      (directory.is_version_2 ? "/memory.current" : "/memory.usage_in_bytes"));
    (void)reclaimable_bytes(directory);
  }
}

uint64_t default_cache_bytes(uint64_t limit) {
  return std::clamp(limit / 4, kLeastCache, kMostCache);
}

}  // namespace moltfs::alloc
