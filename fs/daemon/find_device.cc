// SPDX-License-Identifier: MIT
// Searching the block devices of the machine for a label or a uuid.
#include "fs/daemon/find_device.h"

#include <blkid/blkid.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "alloc/base/utf8.h"
#include "alloc/disk/peek.h"

namespace moltfs::fs::daemon {
namespace {

using alloc::Superblock;

/// The label or uuid to find.
struct Wanted {
  bool by_label = false;
  bool is_link_name = false;  ///< `value` is encoded by link_name()
  std::string value;

  bool matches(const Superblock& super) const {
    const std::string has = by_label ? super.label : super.volume.to_string();
    const std::string& spelled = is_link_name ? link_name(has) : has;
    if (by_label) return !has.empty() && spelled == value;
    return std::equal(spelled.begin(), spelled.end(), value.begin(), value.end(),
                      [](unsigned char a, unsigned char b) { return a == std::tolower(b); });
  }
};

constexpr std::string_view kLabelTag = "LABEL=", kUuidTag = "UUID=";
constexpr std::string_view kLabelLinks = "/dev/disk/by-label/", kUuidLinks = "/dev/disk/by-uuid/";

std::optional<Wanted> wanted_by(std::string_view device) {
  const auto after = [&](std::string_view prefix, bool by_label,
                         bool is_link) -> std::optional<Wanted> {
    if (!device.starts_with(prefix)) return std::nullopt;
    std::string_view value = device.substr(prefix.size());
    if (!is_link && value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      value = value.substr(1, value.size() - 2);
    }
    return Wanted{by_label, is_link, std::string(value)};
  };
  if (auto wanted = after(kLabelTag, true, false)) return wanted;
  if (auto wanted = after(kUuidTag, false, false)) return wanted;
  if (auto wanted = after(kLabelLinks, true, true)) return wanted;
  return after(kUuidLinks, false, true);
}

/// The superblock of the member at `path`; nothing if that is not a member. The device may be in
/// use.
Result<std::optional<Superblock>> member_at(alloc::DeviceOpener& opener, const std::string& path) {
  TRY(const auto device, alloc::open_shared(opener, path));
  auto super = alloc::read_superblock(opener.engine(), *device);
  if (!super || super.value().role != alloc::DeviceRole::member) return std::optional<Superblock>();
  return std::optional<Superblock>(std::move(super).value());
}

}  // namespace

bool is_tag(std::string_view device) {
  return device.starts_with(kLabelTag) || device.starts_with(kUuidTag);
}

Result<std::string> find_device(alloc::DeviceOpener& opener, const std::string& device) {
  const auto wanted = wanted_by(device);
  struct stat status {};
  if (!wanted || (!is_tag(device) && stat(device.c_str(), &status) == 0)) return device;
  struct Found {
    std::string path;
    Superblock super;
  };
  std::optional<Found> best;
  const std::vector<std::string> candidates = opener.candidates();
  for (const std::string& path : candidates) {
    const auto member = member_at(opener, path);
    if (!member || !member.value() || !wanted->matches(*member.value())) continue;
    const Superblock& super = *member.value();
    if (best && best->super.volume != super.volume) {
      return Error(Errc::invalid_argument,
                   fmt::format("{} is ambiguous: {} belongs to volume {}, {} to volume {}; use "
                               "UUID= or a path",
                               device, best->path, best->super.volume.to_string(), path,
                               super.volume.to_string()));
    }
    if (!best || super.generation > best->super.generation) best = Found{path, super};
  }
  if (best) return best->path;
  return Error(Errc::not_found,
               fmt::format("{}: no moltfs with this {} on any of the {} block devices", device,
                           wanted->by_label ? "label" : "uuid", candidates.size()));
}

Result<std::string> udev_properties(alloc::DeviceOpener& opener, const std::string& path) {
  TRY(const auto member, member_at(opener, path));
  if (!member) {
    return Error(Errc::bad_superblock, fmt::format("{} is not a member of a moltfs", path));
  }
  const std::string volume = member->volume.to_string();
  std::string text = fmt::format(
      "ID_FS_TYPE=moltfs\nID_FS_USAGE=filesystem\nID_FS_UUID={0}\nID_FS_UUID_ENC={0}\n"
      "ID_FS_UUID_SUB={1}\nID_FS_UUID_SUB_ENC={1}\n",
      volume, member->device.to_string());
  if (!member->label.empty()) {
    std::string safe(4 * member->label.size() + 1, '\0');
    blkid_safe_string(member->label.c_str(), safe.data(), safe.size());
    text += fmt::format("ID_FS_LABEL={}\nID_FS_LABEL_ENC={}\n", printable(safe.c_str()),
                        link_name(member->label));
  }
  return text;
}

std::string link_name(const std::string& text) {
  // A byte becomes four at most. libblkid wants three bytes of room after each of them, and fails
  // for nothing else.
  std::string encoded(4 * text.size() + 3, '\0');
  if (blkid_encode_string(text.c_str(), encoded.data(), encoded.size()) != 0) return {};
  // libblkid leaves invisible characters as they are.
  return printable(encoded.c_str());
}

}  // namespace moltfs::fs::daemon
