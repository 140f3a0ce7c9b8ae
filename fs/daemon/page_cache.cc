// SPDX-License-Identifier: MIT
// Reading and writing files in /sys and /proc that hold one number each.
#include "fs/daemon/page_cache.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "alloc/base/small_file.h"

namespace moltfs::fs::daemon {
namespace {

/// Several writers may each pass the limit a little before the kernel makes them wait.
constexpr uint64_t kOvershoot = 8 << 20;
constexpr uint64_t kMinCache = 8 << 20;
/// Enough that writers do not wait for the device all the time. The kernel slows down writers that
/// come near the limit, most in the first second, when it does not know the device yet.
constexpr uint64_t kUsualCache = 128 << 20;
/// max_ratio_fine is in parts of this.
constexpr uint64_t kWhole = 1'000'000;

std::string bdi_path(const std::string& device_number, const char* name) {
  return fmt::format("/sys/class/bdi/{}/{}", device_number, name);
}

void write_number(const std::string& path, uint64_t number) {
  std::ofstream file(path);
  if (file) file << number << std::flush;
}

/// How many bytes may be dirty in all memory.
uint64_t dirty_limit() {
  const uint64_t bytes = read_number("/proc/sys/vm/dirty_bytes").value_or(0);
  if (bytes > 0) return bytes;
  struct sysinfo info {};
  sysinfo(&info);
  const uint64_t ratio = read_number("/proc/sys/vm/dirty_ratio").value_or(20);
  return uint64_t{info.totalram} * info.mem_unit / 100 * std::min<uint64_t>(ratio, 100);
}

/// Whether the kernel enforces the share of the mount. Turned on if possible; always on before
/// Linux 6.2.
bool keeps_to_share(const std::string& device_number) {
  const std::string path = bdi_path(device_number, "strict_limit");
  if (read_number(path) == 0) write_number(path, 1);
  return read_number(path).value_or(1) != 0;
}

/// The share of the mount in parts of kWhole. Before Linux 6.2 the kernel has percents only.
uint64_t share(const std::string& device_number) {
  const auto fine = read_number(bdi_path(device_number, "max_ratio_fine"));
  if (fine) return std::min(*fine, kWhole);
  const uint64_t percent = read_number(bdi_path(device_number, "max_ratio")).value_or(100);
  return std::min<uint64_t>(percent, 100) * (kWhole / 100);
}

}  // namespace

void set_readahead(const std::string& device_number, uint64_t bytes) {
  write_number(bdi_path(device_number, "read_ahead_kb"), bytes / 1024);
}

uint64_t limit_cache(const std::string& device_number, uint64_t volume_bytes) {
  if (!keeps_to_share(device_number)) return dirty_limit() + kOvershoot;
  const std::string max_bytes = bdi_path(device_number, "max_bytes");
  if (const auto offered = read_number(max_bytes)) {
    const uint64_t usual = std::max(*offered, std::min(kUsualCache, dirty_limit() / 16));
    write_number(max_bytes, std::min(usual, std::max(volume_bytes / 16, kMinCache)));
  }
  return dirty_limit() / kWhole * share(device_number) + kOvershoot;
}

}  // namespace moltfs::fs::daemon
