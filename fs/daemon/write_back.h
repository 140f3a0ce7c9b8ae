// SPDX-License-Identifier: MIT
// Writing to the devices what the kernel or the daemon holds in memory of a mount. A FUSE
// filesystem is not told of sync(2), so each of these opens the root of the mount.
//
// A daemon may call them for its own mount, in a thread that serves no requests.
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// Has the kernel send the daemon all written data that it caches (syncfs). Errors: those of open
/// and of writing the data, with a sentence.
Result<void> write_back_cache(const std::string& mountpoint);

/// Makes durable all that the daemon has received (fsync of the root). Works on a mount that has
/// just become read-only, too. Errors: those of open and of the commit, with a sentence.
Result<void> commit_received(const std::string& mountpoint);

}  // namespace moltfs::fs::daemon
