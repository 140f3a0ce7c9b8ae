// SPDX-License-Identifier: MIT
// Reading /proc/self/mountinfo.
#include "fs/daemon/mounts.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "fs/daemon/options.h"

namespace moltfs::fs::daemon {
namespace {

/// 36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/sda rw,errors=continue
std::optional<MountEntry> parse_line(const std::string& line) {
  std::istringstream stream(line);
  const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
  const auto dash = std::find(words.begin(), words.end(), "-");
  if (words.size() < 6 || words.end() - dash < 4 || dash - words.begin() < 6) return std::nullopt;
  return MountEntry{words[2], unescape(words[4]), dash[1], unescape(dash[2]),
                    words[5] + "," + dash[3]};
}

bool lies_under(const std::string& path, const std::string& directory) {
  return path == directory || directory == "/" || path.starts_with(directory + "/");
}

}  // namespace

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_octal = [&](size_t at) { return text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(i + 1) && is_octal(i + 2) &&
        is_octal(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (auto entry = parse_line(line)) entries.push_back(std::move(*entry));
  }
  return entries;
}

std::vector<MountEntry> mounts() {
  std::ifstream file("/proc/self/mountinfo");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_mountinfo(text);
}

std::vector<MountEntry> moltfs_mounts() {
  std::vector<MountEntry> found;
  for (MountEntry& entry : mounts()) {
    std::erase_if(found, [&](const MountEntry& e) { return e.mountpoint == entry.mountpoint; });
    if (entry.type == kFilesystemType) found.push_back(std::move(entry));
  }
  return found;
}

std::string resolved_path(const std::string& path) {
  if (char* real = realpath(path.c_str(), nullptr)) {
    std::string result = real;
    free(real);
    return result;
  }
  std::string absolute = absolute_path(path);
  while (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
  return absolute;
}

Result<MountEntry> find_moltfs(const std::string& path) {
  const std::string resolved = resolved_path(path);
  const MountEntry* best = nullptr;
  const auto all = mounts();
  for (const MountEntry& entry : all) {
    if (!lies_under(resolved, entry.mountpoint)) continue;
    // A later mount on the same directory hides the earlier one.
    if (best == nullptr || entry.mountpoint.size() >= best->mountpoint.size()) best = &entry;
  }
  if (best != nullptr && best->type == kFilesystemType) {
    if (best->mountpoint == resolved) return *best;
    return Error(Errc::invalid_argument,
                 fmt::format("{} lies inside the moltfs mounted on {}; give that directory", path,
                             best->mountpoint));
  }
  if (best != nullptr && best->mountpoint == resolved) {
    return Error(Errc::invalid_argument,
                 fmt::format("what is mounted on {} is {}, not moltfs", path, best->type));
  }
  return Error(Errc::invalid_argument, fmt::format("no moltfs is mounted on {}", path));
}

}  // namespace moltfs::fs::daemon
