// SPDX-License-Identifier: MIT
// How many writes that the kernel had cached failed when it sent them to this process: the programs
// that made them believe that they have succeeded, until they call fsync(2).
#pragma once

#include <atomic>
#include <cstdint>

namespace moltfs::fs {

/// Of this process. The endpoint "usage" shows it, so that a umount command can tell whether it was
/// its own write-back that failed: the kernel reports an error of an earlier one, too.
inline std::atomic<uint64_t> failed_cached_writes{0};

}  // namespace moltfs::fs
