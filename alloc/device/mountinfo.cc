// SPDX-License-Identifier: MIT
// Parsing /proc/self/mountinfo; proc_pid_mountinfo(5) describes the fields.
#include "alloc/device/mountinfo.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

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
  return MountinfoEntry{std::string(fields[2]), unescape_mount_path(fields[4]),
                        unescape_mount_path(dash[1]), unescape_mount_path(dash[2]),
                        std::string(fields[5]) + "," + std::string(dash[3])};
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

std::vector<MountinfoEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountinfoEntry> entries;
  for (const std::string_view line : split(text, '\n')) {
    if (auto entry = parse_line(line)) entries.push_back(std::move(*entry));
  }
  return entries;
}

std::vector<MountinfoEntry> read_mountinfo() {
  std::ifstream file("/proc/self/mountinfo");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_mountinfo(text);
}

}  // namespace moltfs::alloc
