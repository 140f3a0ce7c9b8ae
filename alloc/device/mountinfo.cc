// SPDX-License-Identifier: MIT
// Parsing /proc/self/mountinfo; proc_pid_mountinfo(5) describes the fields.
#include "alloc/device/mountinfo.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "alloc/base/small_file.h"

namespace moltfs::alloc {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> fields;
  while (true) {
    const size_t end = text.find(separator);
    fields.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return fields;
    text.remove_prefix(end + 1);
  }
}

/// 36 35 98:0 /root /mnt rw,noatime shared:1 - ext3 /dev/sda rw,errors=continue
///
/// Fields are separated by one blank each: the source may be empty. Between the options of the
/// mount and the dash there may be any number of fields.
std::optional<MountinfoEntry> parse_line(std::string_view line) {
  constexpr size_t kFixedFields = 6, kFieldsAfterDash = 3;
  const std::vector<std::string_view> fields = split(line, ' ');
  if (fields.size() < kFixedFields) return std::nullopt;
  const auto dash = std::find(fields.begin() + kFixedFields, fields.end(), "-");
  if (fields.end() - dash <= static_cast<ptrdiff_t>(kFieldsAfterDash)) return std::nullopt;
  MountinfoEntry entry;
  std::from_chars(fields[0].data(), fields[0].data() + fields[0].size(), entry.id);
  entry.device_number = fields[2];
  entry.root = unescape_mount_path(fields[3]);
  entry.mountpoint = unescape_mount_path(fields[4]);
  entry.type = unescape_mount_path(dash[1]);
  entry.source = unescape_mount_path(dash[2]);
  entry.options = std::string(fields[5]) + "," + std::string(dash[3]);
  return entry;
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

}  // namespace

std::string unescape_mount_path(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_escape = text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
                           is_octal(text[i + 2]) && is_octal(text[i + 3]);
    if (!is_escape) {
      plain += text[i];
      continue;
    }
    plain +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return plain;
}

const MountinfoEntry* mount_of_path(const std::vector<MountinfoEntry>& mounts,
                                    std::string_view path) {
  const auto lies_under = [path](std::string_view directory) {
    return directory == "/" || path == directory ||
           (path.starts_with(directory) && path[directory.size()] == '/');
  };
  const MountinfoEntry* best = nullptr;
  for (const MountinfoEntry& entry : mounts) {
    if (!lies_under(entry.mountpoint)) continue;
    if (best == nullptr || entry.mountpoint.size() >= best->mountpoint.size()) best = &entry;
  }
  return best;
}

const MountinfoEntry* mount_of_id(const std::vector<MountinfoEntry>& mounts, uint64_t id) {
  for (const MountinfoEntry& entry : mounts) {
    if (static_cast<uint64_t>(entry.id) == id) return &entry;
  }
  return nullptr;
}

dev_t device_number_of(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  unsigned parts[2] = {0, 0};
  for (unsigned& part : parts) {
    const bool is_first = &part == parts;
    const std::string_view digits = is_first              ? text.substr(0, colon)
                                    : colon < text.size() ? text.substr(colon + 1)
                                                          : std::string_view();
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), part);
    if (error != std::errc() || end != digits.data() + digits.size()) return 0;
  }
  return makedev(parts[0], parts[1]);
}

std::vector<MountinfoEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountinfoEntry> entries;
  for (const std::string_view line : split(text, '\n')) {
    if (auto entry = parse_line(line)) entries.push_back(std::move(*entry));
  }
  return entries;
}

std::vector<MountinfoEntry> read_mountinfo() {
  return parse_mountinfo(read_small_file("/proc/self/mountinfo").value_or(""));
}

}  // namespace moltfs::alloc
