// SPDX-License-Identifier: MIT
#include "alloc/device/memory_limit.h"

#include <map>

#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

/// The limit that /proc/self/cgroup, /proc/self/mountinfo and the files give.
std::optional<uint64_t> limit_of(std::string_view cgroups, std::string_view mountinfo,
                                 const std::map<std::string, uint64_t>& files) {
  return cgroup_memory_limit(cgroups, parse_mountinfo(mountinfo),
                             [&](const std::string& path) -> std::optional<uint64_t> {
                               const auto found = files.find(path);
                               if (found == files.end()) return std::nullopt;
                               return found->second;
                             });
}

constexpr std::string_view kVersion2 =
    "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr std::string_view kVersion1 =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST_CASE("the limit of the own cgroup counts, and that of each cgroup above it") {
  std::map<std::string, uint64_t> files = {{"/sys/fs/cgroup/system/moltfs/memory.max", 64}};
  CHECK(limit_of("0::/system/moltfs\n", kVersion2, files) == 64);
  files["/sys/fs/cgroup/system/memory.max"] = 32;
  CHECK(limit_of("0::/system/moltfs\n", kVersion2, files) == 32);
  files["/sys/fs/cgroup/system/moltfs/memory.high"] = 16;
  CHECK(limit_of("0::/system/moltfs\n", kVersion2, files) == 16);
  CHECK(limit_of("0::/system/other\n", kVersion2, files) == 32);
  CHECK_FALSE(limit_of("0::/other\n", kVersion2, files));
}

TEST_CASE("in a container the own cgroup is mounted, and the path from the host does not exist") {
  const std::map<std::string, uint64_t> files = {
      {"/sys/fs/cgroup/memory.max", 64}, {"/sys/fs/cgroup/memory/memory.limit_in_bytes", 8}};
  CHECK(limit_of("0::/docker/0123\n", kVersion2, files) == 64);
  CHECK(limit_of("0::/\n", kVersion2, files) == 64);
  CHECK(limit_of("0::/../..\n", kVersion2, files) == 64);
  CHECK(limit_of("4:memory:/docker/0123\n0::/docker/0123\n", kVersion1, files) == 8);
}

TEST_CASE("version 1 has another file, and each controller its own hierarchy") {
  const std::map<std::string, uint64_t> files = {
      {"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", 64},
      {"/sys/fs/cgroup/cpu/a/memory.limit_in_bytes", 1},
      {"/sys/fs/cgroup/memory/b/memory.limit_in_bytes", 2}};
  CHECK(limit_of("4:memory:/a\n1:cpu:/b\n0::/b\n", kVersion1, files) == 64);
  CHECK(limit_of("4:hugetlb,memory:/a\n", kVersion1, files) == 64);
}

TEST_CASE("without cgroups, or with files that make no sense, there is no limit") {
  const std::map<std::string, uint64_t> files = {{"/sys/fs/cgroup/memory.max", 64}};
  CHECK_FALSE(limit_of("", kVersion2, files));
  CHECK_FALSE(limit_of("nonsense\n7\n:\n", kVersion2, files));
  CHECK_FALSE(limit_of("0::/\n", "", files));
}

TEST_CASE("the cache gets a quarter of the limit, from 4 to 256 MiB") {
  CHECK(default_cache_bytes(64 << 20) == 16 << 20);
  CHECK(default_cache_bytes(1 << 20) == 4 << 20);
  CHECK(default_cache_bytes(UINT64_MAX) == 256 << 20);
  CHECK(memory_limit() > 0);
}

}  // namespace
}  // namespace moltfs::alloc
