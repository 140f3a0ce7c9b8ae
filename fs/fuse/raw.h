// SPDX-License-Identifier: MIT
// Requests answered before libfuse sees them, because it does not know them: O_TMPFILE, the birth
// time for statx(2), syncfs. And the answer to FUSE_INIT, which gets capabilities that libfuse
// lacks: set-id bits are cleared when the kernel says so (FUSE_HANDLE_KILLPRIV_V2, by who writes;
// FUSE_SETXATTR_EXT, by who sets an ACL).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

/// Answers the request if it is one of those; `fd`: where the answer goes.
bool answer_raw(FuseContext& context, std::span<const std::byte> request, int fd);

/// The request in the form that libfuse knows: what kernels have added is taken out of the middle
/// (the span begins later then).
std::span<std::byte> without_extension(const FuseContext& context, std::span<std::byte> request);

/// Sends a reply of libfuse's to the kernel; `request`: what it answers.
ssize_t send_reply(int fd, const iovec* parts, int count, std::span<const std::byte> request);

}  // namespace moltfs::fs::fuse
