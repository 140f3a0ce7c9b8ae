// SPDX-License-Identifier: MIT
// For tests of names: makes inodes, lists directories.
#pragma once

#include <string_view>
#include <vector>

#include "fs/filesystem_test_util.h"

namespace moltfs::fs::test {

/// Makes something and drops its reference.
inline Attributes make(TestFilesystem& fs, InodeNumber parent, std::string_view name, uint32_t mode,
                       const Caller& caller = {}) {
  const Attributes made = must(fs->make(parent, name, mode, 0, caller));
  fs->forget(made.ino, 1);
  return made;
}

/// All names of a directory but "." and "..", in readdir order.
inline std::vector<DirEntry> list(TestFilesystem& fs, InodeNumber directory) {
  std::vector<DirEntry> entries;
  must(fs->read_directory(directory, 0, false, [&](const DirEntry& entry, const Attributes*) {
    if (entry.name != "." && entry.name != "..") entries.push_back(entry);
    return true;
  }));
  return entries;
}

}  // namespace moltfs::fs::test
