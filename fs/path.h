// SPDX-License-Identifier: MIT
// Inside fs only: paths of inodes, for messages.
#pragma once

#include <string>

#include "fs/core.h"

namespace moltfs::fs {

/// See Filesystem::path_of.
std::string find_path(Core& core, InodeNumber ino);

}  // namespace moltfs::fs
