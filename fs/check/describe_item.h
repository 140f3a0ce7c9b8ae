// SPDX-License-Identifier: MIT
// Items of the trees in words, one line each.
#pragma once

#include <string>

#include "fs/inode/inode.h"
#include "fs/tree/node.h"

namespace moltfs::fs {

/// What the item holds, or why it makes no sense.
std::string describe_item(TreeId tree, const Item& item);
std::string describe(const Inode& inode);
/// `name` with what a terminal would take for more than text escaped.
std::string printable(std::string_view name);

}  // namespace moltfs::fs
