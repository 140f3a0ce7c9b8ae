// SPDX-License-Identifier: MIT
// Requests answered before libfuse sees them, because it does not know them: O_TMPFILE, the birth
// time for statx(2), syncfs. And the answer to FUSE_INIT, which gets a capability that libfuse
// lacks: set-id bits are cleared when the kernel says so (FUSE_HANDLE_KILLPRIV_V2), by who writes.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "fs/fuse/front.h"

namespace moltfs::fs::fuse {

/// Answers the request if it is one of those; `fd`: where the answer goes.
bool answer_raw(Front& front, std::span<const std::byte> request, int fd);

/// Sends a reply of libfuse's to the kernel; `request`: what it answers.
ssize_t send_reply(int fd, const iovec* parts, int count, std::span<const std::byte> request);

}  // namespace moltfs::fs::fuse
