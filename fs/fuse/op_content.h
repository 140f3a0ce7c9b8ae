// SPDX-License-Identifier: MIT
// What the deferred shares with the content operations.
#pragma once

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

/// Replies to a seek with what the filesystem knows.
void answer_seek(fuse_req_t req, Filesystem& filesystem, fuse_ino_t ino, off_t offset, int whence);

}  // namespace moltfs::fs::fuse
