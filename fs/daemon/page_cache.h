// SPDX-License-Identifier: MIT
// The kernel's page cache of a mount: what may be set and asked under /sys/class/bdi.
#pragma once

#include <cstdint>
#include <string>

namespace moltfs::fs::daemon {

/// The kernel's read-ahead, where that may be set. `device_number`: "MAJOR:MINOR" of the mount.
void set_readahead(const std::string& device_number, uint64_t bytes);

/// How many bytes the kernel may hold of the mount before they are written back, at most: its share
/// of what may be dirty in all memory, if it keeps to a share, and a little for writers on their
/// way. Where that may be set (by root, from Linux 6.2 on) the share is made larger than the usual
/// hundredth, so that writers do not wait, but on a small volume no more than a part of it: with
/// less space than that, writers have to ask.
uint64_t limit_cache(const std::string& device_number, uint64_t volume_bytes);

}  // namespace moltfs::fs::daemon
