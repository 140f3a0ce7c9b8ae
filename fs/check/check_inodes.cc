// SPDX-License-Identifier: MIT
// Comparing inodes with the directory entries that lead to them.
#include "fs/check/check_inodes.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace moltfs::fs::checking {
namespace {

// Of a path in a message.
constexpr unsigned kMaxDepth = 10'000;
constexpr size_t kMaxPathBytes = 64 * 1024;

}  // namespace

void InodeStates::add_mark(InodeNumber ino, OrphanKind kind) {
  InodeState& state = states_[ino];
  if (kind == OrphanKind::remove) {
    state.is_doomed = true;
  } else {
    state.is_being_cut = true;
  }
}

void InodeStates::add_inode(const Inode& inode) {
  InodeState& state = states_[inode.ino];
  state.has_item = true;
  state.type = entry_type(inode.mode);
  state.size = inode.size;
  state.parent = inode.parent.value;
  state.links = inode.links;
}

void InodeStates::add_entry(InodeNumber directory, const DirEntry& entry) {
  if (entry.type == DT_DIR) ++states_[directory].subdirectories;
  InodeState& state = states_[entry.ino];
  if (++state.entries == 1) {
    state.directory = directory.value;
    state.entry = entry.cookie;
    state.entry_type = entry.type;
  } else if (state.entry_type != entry.type) {
    findings_.add(directory,
                  fmt::format("the entry \"{}\" has another file type than another entry of "
                              "inode {}",
                              entry.name, entry.ino.value));
  }
}

const InodeState* InodeStates::find(InodeNumber ino) const {
  const auto found = states_.find(ino);
  return found == states_.end() ? nullptr : &found->second;
}

void InodeStates::compare(const FsCounters& counters) {
  std::vector<InodeNumber> sorted;
  sorted.reserve(states_.size());
  for (const auto& [ino, state] : states_) sorted.push_back(ino);
  std::sort(sorted.begin(), sorted.end());
  for (const InodeNumber ino : sorted) {
    const InodeState& state = states_[ino];
    if (state.has_item) {
      ++inode_count_;
      highest_ = ino;
      if (state.type == DT_DIR) ++directory_count_;
    }
    compare_one(ino, state);
  }
  const auto* root = find(kRootInode);
  if ((root == nullptr || !root->has_item) && !lost_.may_hold(TreeId::fs, inode_key(kRootInode))) {
    findings_.add("/", "there is no root directory");
  } else if (root != nullptr && root->type != 0 && root->type != DT_DIR) {
    findings_.add("/", "the root is not a directory");
  }
  find_loops(sorted);
  compare_counters(counters);
}

void InodeStates::compare_one(InodeNumber ino, const InodeState& state) {
  const bool marked = state.is_doomed || state.is_being_cut;
  if (!state.has_item) {
    if (lost_.may_hold(TreeId::fs, inode_key(ino))) return;
    if (state.entries > 0) {
      findings_.add(ino, fmt::format("the entry names inode {}, which does not exist", ino.value));
    } else if (marked) {
      findings_.add(ino, "is marked as an orphan, but does not exist");
    }
    return;
  }
  if (state.type == 0) return;  // reported already
  if (state.entries > 0 && state.entry_type != state.type) {
    findings_.add(ino, fmt::format("its directory entry has type {}, the inode has {}",
                                   state.entry_type, state.type));
  }
  if (state.is_doomed) {
    if (state.links > 0) {
      findings_.add(ino, fmt::format("is marked for removal, but has {} links", state.links));
    } else if (state.entries > 0) {
      findings_.add(ino, "is marked for removal, but has a name");
    }
    return;
  }
  if (state.type == DT_DIR) {
    compare_directory(ino, state);
  } else {
    compare_file(ino, state);
  }
}

void InodeStates::compare_directory(InodeNumber ino, const InodeState& state) {
  const bool all_read = !lost_.any(TreeId::fs);
  if (ino == kRootInode) {
    if (state.parent != kRootInode.value) {
      findings_.add(ino, fmt::format("its parent is inode {}, not itself", state.parent));
    }
    if (state.entries > 0)
      findings_.add(ino, "another directory has an entry for the root directory");
  } else if (state.entries == 0) {
    if (all_read) findings_.add(ino, "no directory has an entry for this directory");
  } else if (state.entries > 1) {
    findings_.add(ino, fmt::format("{} entries name this directory", state.entries));
  } else if (state.parent != state.directory) {
    findings_.add(ino, fmt::format("its parent is inode {}, but its name is in inode {}",
                                   state.parent, state.directory));
  }
  if (all_read && state.links != 2 + state.subdirectories) {
    findings_.add(
        ino, fmt::format("has {} links, but {} subdirectories", state.links, state.subdirectories));
  }
}

void InodeStates::compare_file(InodeNumber ino, const InodeState& state) {
  if (lost_.any(TreeId::fs) || state.links == state.entries) {
    if (state.links != 0 || lost_.any(TreeId::fs)) return;
    findings_.add(ino, "has neither a name nor the mark of an orphan");
  } else if (state.entries == 0) {
    findings_.add(
        ino, fmt::format("no directory has an entry for it, but it has {} links", state.links));
  } else {
    findings_.add(
        ino, fmt::format("has {} links, but {} directory entries", state.links, state.entries));
  }
}

void InodeStates::compare_counters(const FsCounters& counters) {
  if (highest_.value >= counters.next_inode) {
    findings_.add("superblock", fmt::format("the next inode number is {}, but inode {} exists",
                                            counters.next_inode, highest_.value));
  }
  if (inode_count_ != counters.inode_count && !lost_.any(TreeId::fs)) {
    findings_.add("superblock", fmt::format("counts {} inodes, there are {}", counters.inode_count,
                                            inode_count_));
  }
}

/// Finds directories that are inside each other but not below the root.
void InodeStates::find_loops(const std::vector<InodeNumber>& sorted) {
  std::unordered_set<InodeNumber> known{kRootInode};  // below the root, or reported
  for (const InodeNumber ino : sorted) {
    std::vector<InodeNumber> way;
    std::unordered_set<InodeNumber> on_way;
    for (InodeNumber at = ino; known.count(at) == 0;) {
      const InodeState* state = find(at);
      if (state == nullptr || state->type != DT_DIR || state->directory == 0) break;
      if (!on_way.insert(at).second) {
        findings_.add(fmt::format("<inode {}>", at.value),
                      "this directory is inside itself: no path leads to it");
        break;
      }
      way.push_back(at);
      at = InodeNumber{state->directory};
    }
    known.insert(way.begin(), way.end());
  }
}

std::string InodeStates::path_of(InodeNumber ino, TreeReader& reader,
                                 const TreeRoot& fs_root) const {
  std::string unknown = fmt::format("<inode {}>", ino.value);
  std::string path;
  for (unsigned depth = 0; ino != kRootInode; ++depth) {
    const InodeState* state = find(ino);
    if (depth == kMaxDepth || path.size() > kMaxPathBytes) return unknown;
    if (state == nullptr || state->directory == 0) return unknown;
    const InodeNumber directory{state->directory};
    const Key key = entry_key(directory, state->entry);
    const auto value = reader.find(TreeId::fs, fs_root, key);
    if (!value || !value.value()) return unknown;
    const auto entry = decode_entry(key, *value.value());
    if (!entry) return unknown;
    path = "/" + entry.value().name + path;
    ino = directory;
  }
  return path.empty() ? "/" : path;
}

}  // namespace moltfs::fs::checking
