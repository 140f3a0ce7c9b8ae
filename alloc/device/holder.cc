// SPDX-License-Identifier: MIT
// Mounts, swap areas and device-mapper devices as the kernel lists them.
#include "alloc/device/holder.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

namespace moltfs::alloc {
namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

/// Undoes the kernel's "\040" for a space and the like.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
                        is_octal(text[i + 2]) && is_octal(text[i + 3]);
    if (!escape) {
      plain += text[i];
      continue;
    }
    plain +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return plain;
}

/// Only names in /dev are asked: a stat elsewhere could hang on a dead network filesystem.
bool names_block_device(const std::string& path, dev_t block_device) {
  struct stat status;
  return path.starts_with("/dev/") && stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
         status.st_rdev == block_device;
}

/// Of the first mount for which `matches(device number, source)`; empty if there is none.
template <class Matches>
std::string first_mount_point(const std::string& mountinfo, const Matches& matches) {
  std::istringstream lines(mountinfo);
  std::string line;
  while (std::getline(lines, line)) {
    // id parent major:minor root mount-point options [optional]... - type source super-options
    std::istringstream fields(line);
    const std::vector<std::string> words{std::istream_iterator<std::string>(fields), {}};
    if (words.size() < 6) continue;
    size_t dash = 6;
    while (dash < words.size() && words[dash] != "-") ++dash;
    const bool has_source = dash + 2 < words.size();
    if (matches(words[2], has_source ? unescaped(words[dash + 2]) : "")) return unescaped(words[4]);
  }
  return {};
}

bool is_swap(dev_t block_device) {
  std::istringstream swaps(read_text("/proc/swaps"));
  std::string line;
  while (std::getline(swaps, line)) {
    if (names_block_device(unescaped(line.substr(0, line.find_first_of(" \t"))), block_device)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string mount_point_in(const std::string& mountinfo, dev_t block_device) {
  const std::string number = fmt::format("{}:{}", major(block_device), minor(block_device));
  // Filesystems with device numbers of their own (FUSE, btrfs) are known by their source.
  return first_mount_point(mountinfo, [&](const std::string& device, const std::string& source) {
    return device == number || names_block_device(source, block_device);
  });
}

std::string mount_point_in(const std::string& mountinfo, const std::string& image) {
  return first_mount_point(
      mountinfo, [&](const std::string&, const std::string& source) { return source == image; });
}

std::string holder_of(const std::string& image) {
  const std::string mount_point = mount_point_in(read_text("/proc/self/mountinfo"), image);
  return mount_point.empty() ? "locked by another mount or program" : "mounted on " + mount_point;
}

std::string holder_of(dev_t block_device) {
  const std::string mount_point = mount_point_in(read_text("/proc/self/mountinfo"), block_device);
  if (!mount_point.empty()) return "mounted on " + mount_point;
  if (is_swap(block_device)) return "used for swap";

  std::error_code error;
  const auto holders =
      fmt::format("/sys/dev/block/{}:{}/holders", major(block_device), minor(block_device));
  for (const auto& entry : std::filesystem::directory_iterator(holders, error)) {
    return "held by " + entry.path().filename().string();
  }
  return {};
}

}  // namespace moltfs::alloc
