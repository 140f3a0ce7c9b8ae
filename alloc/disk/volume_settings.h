// SPDX-License-Identifier: MIT
// What a user may choose for a volume: its label, its chunk size, and the paths of its devices.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

/// Error: invalid_argument with a sentence if `label` is longer than kMaxLabelBytes or has control
/// characters (bytes 0 to 31 and 127). Other bytes are allowed; they need not be UTF-8. The empty
/// label is allowed: it means none. (Labels on disk are only checked for length and zero bytes:
/// older versions wrote others.)
Result<void> check_label(std::string_view label);

/// Error: invalid_argument with a sentence if a superblock cannot record `path` (kMaxPathBytes): the
/// next mount would not find an image file there.
Result<void> check_device_path(std::string_view path);

/// A power of two from kMinChunkSize to kMaxChunkSize, in bytes.
bool is_valid_chunk_size(uint64_t bytes);
/// Error: invalid_argument with a sentence if `bytes` is not a valid chunk size.
Result<void> check_chunk_size(uint64_t bytes);

struct Profiles {
  Profile data = Profile::single, metadata = Profile::dup;
};
/// The profiles of a new volume if the user chooses none: one device stores data once and metadata
/// twice; several devices store both on two of them.
Profiles default_profiles(size_t device_count);
/// What a new volume survives, as a sentence for the user.
std::string survival_text(const Profiles& profiles, size_t device_count);

/// The chunk size of a new volume on these devices, in bytes: a power of two, so large that the
/// chunk table of a big volume stays short, and so small that a small volume has chunks of both
/// kinds.
uint64_t default_chunk_size(const std::vector<DeviceEntry>& devices);

}  // namespace moltfs::alloc
