// SPDX-License-Identifier: MIT
// Inside check only: what is known of each inode while the fs tree is walked, and what has to hold
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
  uint64_t parent = 0;     ///< directories: as the inode says
  uint64_t directory = 0;  ///< that holds the first entry for it; 0: none was met
  uint64_t entry = 0;      ///< key offset of that entry
  uint32_t links = 0;      ///< as the inode says
  uint32_t entries = 0;    ///< that name it
  uint32_t subdirectories = 0;
  uint8_t type = 0;        ///< DT_*; 0: there is no inode item that can be read
  uint8_t entry_type = 0;  ///< DT_* of the first entry
  bool has_item : 1 = false;
  bool is_doomed : 1 = false;     ///< has a mark of OrphanKind::remove
  bool is_being_cut : 1 = false;  ///< has a mark of OrphanKind::truncate
};

class InodeStates {
 public:
  InodeStates(Findings& findings, const LostKeys& lost) : findings_(findings), lost_(lost) {}

  // In the order of keys: marks come before inodes.
  void add_mark(InodeNumber ino, OrphanKind kind);
  void add_inode(const Inode& inode);
  /// There is an inode item, but it makes no sense.
  void add_damaged_inode(InodeNumber ino) { states_[ino].has_item = true; }
  void add_entry(InodeNumber directory, const DirEntry& entry);

  /// After the walk.
  void compare(const FsCounters& counters);
  /// Null: nothing names it and it does not exist.
  const InodeState* find(InodeNumber ino) const;
  /// From the root; "<inode 12>" if there is no way to it.
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
