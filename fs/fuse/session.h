// SPDX-License-Identifier: MIT
// A session of libfuse: decodes requests and calls the operations. The server mounts one; tests use
// one that is not mounted.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

struct SessionDeleter {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};
using Session = std::unique_ptr<fuse_session, SessionDeleter>;

/// `options`: for the kernel and libfuse, as after "-o". Error: invalid_argument.
Result<Session> make_session(FuseContext& context, const std::string& options);
/// Replies of the session go to reply_descriptor() (receive.h), or to `fd` if that is -1. libfuse
/// reads no requests itself. False: this libfuse cannot do that.
bool redirect(fuse_session* session, int fd);
/// Handles one whole request: replies, or keeps what the reply needs. False: the request does not
/// count as load.
bool handle_request(FuseContext& context, fuse_session* session, std::span<std::byte> request);

}  // namespace moltfs::fs::fuse
