// SPDX-License-Identifier: MIT
// Files of one number each, in /sys and /proc.
#include "fs/daemon/page_cache.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <optional>

namespace moltfs::fs::daemon {
namespace {

/// Each of some writers passes the limit by a little before it is made to wait.
constexpr uint64_t kOvershoot = 8 << 20;
constexpr uint64_t kLeastCache = 8 << 20;
/// Enough for who writes not to wait for the device all the time: the kernel slows down those who
/// come near its limit, and by much in the first second, when it does not know the device yet.
constexpr uint64_t kUsualCache = 128 << 20;
/// Of which max_ratio_fine tells a part.
constexpr uint64_t kWhole = 1'000'000;

std::string bdi_path(const std::string& device_number, const char* name) {
  return fmt::format("/sys/class/bdi/{}/{}", device_number, name);
}

std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  uint64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

void write_number(const std::string& path, uint64_t number) {
  std::ofstream file(path);
  if (file) file << number << std::flush;
}

/// Of all memory, dirty at most.
uint64_t dirty_limit() {
  const uint64_t bytes = number_in("/proc/sys/vm/dirty_bytes").value_or(0);
  if (bytes > 0) return bytes;
  struct sysinfo info {};
  sysinfo(&info);
  const uint64_t ratio = number_in("/proc/sys/vm/dirty_ratio").value_or(20);
  return uint64_t{info.totalram} * info.mem_unit / 100 * std::min<uint64_t>(ratio, 100);
}

/// Whether the kernel keeps the mount to its share; before Linux 6.2 it always did.
bool keeps_to_share(const std::string& device_number) {
  const std::string path = bdi_path(device_number, "strict_limit");
  if (number_in(path) == 0) write_number(path, 1);
  return number_in(path).value_or(1) != 0;
}

/// The mount's, of kWhole; before Linux 6.2 in percent only.
uint64_t share(const std::string& device_number) {
  const auto fine = number_in(bdi_path(device_number, "max_ratio_fine"));
  if (fine) return std::min(*fine, kWhole);
  const uint64_t percent = number_in(bdi_path(device_number, "max_ratio")).value_or(100);
  return std::min<uint64_t>(percent, 100) * (kWhole / 100);
}

}  // namespace

void set_readahead(const std::string& device_number, uint64_t bytes) {
  write_number(bdi_path(device_number, "read_ahead_kb"), bytes / 1024);
}

uint64_t limit_cache(const std::string& device_number, uint64_t volume_bytes) {
  if (!keeps_to_share(device_number)) return dirty_limit() + kOvershoot;
  const std::string most = bdi_path(device_number, "max_bytes");
  if (const auto offered = number_in(most)) {
    const uint64_t usual = std::max(*offered, std::min(kUsualCache, dirty_limit() / 16));
    write_number(most, std::min(usual, std::max(volume_bytes / 16, kLeastCache)));
  }
  return dirty_limit() / kWhole * share(device_number) + kOvershoot;
}

}  // namespace moltfs::fs::daemon
