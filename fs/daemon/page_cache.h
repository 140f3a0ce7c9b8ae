// SPDX-License-Identifier: MIT
// Limits of the kernel's page cache for a mount, set and read under /sys/class/bdi.
#pragma once

#include <cstdint>
#include <string>

namespace moltfs::fs::daemon {

/// Sets the kernel's read-ahead for the mount `device_number` ("MAJOR:MINOR"), if allowed (root).
void set_readahead(const std::string& device_number, uint64_t bytes);

/// Returns an upper bound, in bytes, of what the kernel holds of the mount before it is written
/// back: the mount's share of what may be dirty in all memory, plus some for writers that are just
/// passing the limit. If allowed (root, from Linux 6.2 on), first sets the share to more than the
/// usual hundredth, so that writers do not wait, but on a small volume to no more than a part of
/// it: with less free space than the bound, each writer must reserve space (fs/fuse/low_space.h).
uint64_t limit_cache(const std::string& device_number, uint64_t volume_bytes);

}  // namespace moltfs::fs::daemon
