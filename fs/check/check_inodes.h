// SPDX-License-Identifier: MIT
// Used by check only: what is known of each inode while the fs tree is walked, and the rules
// between inodes: links, parents, types, marks of orphans.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "fs/check/check_findings.h"
#include "fs/check/tree_reader.h"
#include "fs/inode/inode.h"
#include "fs/inode/orphan_mark.h"
#include "fs/names/dir_entry.h"

namespace moltfs::fs::checking {

struct InodeState {
  uint64_t size = 0;
  uint64_t parent = 0;     ///< of a directory, in its inode
  uint64_t directory = 0;  ///< with the first entry for this inode; 0: none was seen
  uint64_t entry = 0;      ///< offset in the key of that entry
  uint32_t links = 0;      ///< in the inode
  uint32_t entries = 0;    ///< that lead to this inode
  uint32_t subdirectories = 0;
  uint8_t type = 0;        ///< DT_*; 0: no valid inode item was seen
  uint8_t entry_type = 0;  ///< DT_* in the first entry
  bool has_item : 1 = false;
  bool is_doomed : 1 = false;     ///< has a mark of OrphanKind::remove
  bool is_being_cut : 1 = false;  ///< has a mark of OrphanKind::truncate
};

class InodeStates {
 public:
  InodeStates(Findings& findings, const LostKeys& lost) : findings_(findings), lost_(lost) {}

  // To be called in the order of keys: marks of orphans come before inodes.
  void add_mark(InodeNumber ino, OrphanKind kind);
  void add_inode(const Inode& inode);
  /// There is an inode item, but it is not valid.
  void add_damaged_inode(InodeNumber ino) { states_[ino].has_item = true; }
  void add_entry(InodeNumber directory, const DirEntry& entry);

  /// To be called after the walk: checks the rules between inodes.
  void compare(const FsCounters& counters);
  /// Null if neither the inode nor an entry for it was seen.
  const InodeState* find(InodeNumber ino) const;
  /// From the root; "<inode 12>" if no path leads to it.
  std::string path_of(InodeNumber ino, TreeReader& reader, const TreeRoot& fs_root) const;
  uint64_t inode_count() const { return inode_count_; }
  uint64_t directory_count() const { return directory_count_; }

 private:
  void compare_one(InodeNumber ino, const InodeState& state);
  void compare_directory(InodeNumber ino, const InodeState& state);
  void compare_file(InodeNumber ino, const InodeState& state);
  void compare_counters(const FsCounters& counters);
  void find_loops(const std::vector<InodeNumber>& sorted);

  Findings& findings_;
  const LostKeys& lost_;
  std::unordered_map<InodeNumber, InodeState> states_;
  uint64_t inode_count_ = 0, directory_count_ = 0;
  InodeNumber highest_;
};

}  // namespace moltfs::fs::checking
