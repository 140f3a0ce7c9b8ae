// SPDX-License-Identifier: MIT
// Requests that libfuse does not know. They are answered here, in the kernel's own structures,
// before libfuse sees them: O_TMPFILE, statx(2) with the birth time, syncfs(2). Also two changes to
// what libfuse exchanges with the kernel: the reply to FUSE_INIT gets capabilities that libfuse
// lacks (FUSE_HANDLE_KILLPRIV_V2 and FUSE_SETXATTR_EXT: the kernel says when set-id bits are to be
// cleared, by a write and by a new ACL), and FUSE_SETXATTR is put into the form that libfuse knows.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

struct RawRequest {
  FuseContext& context;
  fuse_in_header header;
  std::span<const std::byte> bytes;  ///< all of it, with the header
  int fd;                            ///< where the reply goes

  /// False if the kernel did not take the reply.
  bool reply(const void* data, size_t size) const;
  void reply_error(int error) const;
  /// `birth`: null if it is unknown. `valid_seconds`: for how long the kernel may cache it.
  void reply_statx(const struct stat& s, const Time* birth, double valid_seconds) const;
};

/// Replies to the request if it is one of those; `fd`: where the reply goes.
bool answer_raw(FuseContext& context, std::span<const std::byte> request, int fd);

/// The request in the form that libfuse knows: what newer kernels have put into the middle is taken
/// out. The result begins later in the same memory.
std::span<std::byte> without_extension(const FuseContext& context, std::span<std::byte> request);

/// Sends a reply of libfuse's to the kernel; `request`: what it replies to.
ssize_t send_reply(int fd, const iovec* parts, int count, std::span<const std::byte> request);

}  // namespace moltfs::fs::fuse
