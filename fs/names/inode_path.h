// SPDX-License-Identifier: MIT
// Inside fs only: paths of inodes, for messages.
#pragma once

#include <string>

#include "fs/inode/context.h"

namespace moltfs::fs {

/// See Filesystem::path_of.
std::string find_path(FilesystemContext& context, InodeNumber ino);

}  // namespace moltfs::fs
