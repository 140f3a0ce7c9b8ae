// SPDX-License-Identifier: MIT
// Items of the trees as text, one line each.
#pragma once

#include <string>

#include "fs/inode/inode.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

/// The content of the item, or why it is not valid.
std::string describe_item(TreeId tree, const Item& item);
std::string describe(const Inode& inode);

}  // namespace moltfs::fs
