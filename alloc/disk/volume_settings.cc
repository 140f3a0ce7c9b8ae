// SPDX-License-Identifier: MIT
// The limits of labels and chunk sizes.
#include "alloc/disk/volume_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "alloc/base/size_text.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

Result<void> check_label(std::string_view label) {
  if (label.size() > kMaxLabelBytes) {
    return Error(
        Errc::invalid_argument,
        fmt::format("a label has at most {} bytes, this one has {}", kMaxLabelBytes, label.size()));
  }
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(label.begin(), label.end(), is_control)) {
    return Error(Errc::invalid_argument, "a label must not contain control characters");
  }
  return ok();
}

Result<void> check_device_path(std::string_view path) {
  if (path.size() <= kMaxPathBytes) return ok();
  constexpr size_t kShown = 64;
  return Error(Errc::invalid_argument,
               fmt::format("{}...: the path has {} bytes; a volume records up to {}, and would not "
                           "find the device again. Give it a shorter path, for instance by a link",
                           path.substr(0, kShown), path.size(), kMaxPathBytes));
}

bool is_valid_chunk_size(uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= kMinChunkSize && bytes <= kMaxChunkSize;
}

Result<void> check_chunk_size(uint64_t bytes) {
  if (is_valid_chunk_size(bytes)) return ok();
  return Error(Errc::invalid_argument,
               fmt::format("chunk size {}: it must be a power of two from {} to {}", bytes,
                           human_size(kMinChunkSize), human_size(kMaxChunkSize)));
}

Profiles default_profiles(size_t device_count) {
  if (device_count > 1) return {Profile::raid1, Profile::raid1};
  return {};
}

std::string survival_text(const Profiles& profiles, size_t device_count) {
  if (device_count == 1) return "nothing survives the loss of the device";
  const unsigned data = losses_survived(profiles.data);
  const unsigned all = std::min(data, losses_survived(profiles.metadata));
  if (all == 0) return "the volume does not survive the loss of a device";
  if (all == 1) return "everything survives the loss of one device";
  return fmt::format("everything survives the loss of {} devices", all);
}

uint64_t default_chunk_size(const std::vector<DeviceEntry>& devices) {
  uint64_t total = 0, smallest = UINT64_MAX;
  for (const DeviceEntry& entry : devices) {
    total += entry.size_bytes;
    smallest = std::min(smallest, entry.size_bytes - kFirstChunkOffset);
  }
  uint64_t size = std::max<uint64_t>(4 << 20, std::bit_ceil(total / 1024));
  // Smaller if the smallest device would have less than 8 chunks, but not so small that the table
  // gets long.
  const uint64_t min = std::max(kMinChunkSize, std::bit_ceil(total / 4096));
  while (size > min && size * 8 > smallest) size /= 2;
  return std::min(size, kMaxChunkSize);
}

}  // namespace moltfs::alloc
