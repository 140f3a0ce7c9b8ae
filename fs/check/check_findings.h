// SPDX-License-Identifier: MIT
// Used by check only: findings, collected before the paths of inodes are known, and the ranges of
// keys that could not be read.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "fs/check/report.h"
#include "fs/inode/inode.h"
#include "fs/tree/node.h"

namespace moltfs::fs::checking {

class Findings {
 public:
  static constexpr size_t kMaxKept = 1000;

  void add(std::string where, std::string what);
  /// A finding at the path of the inode; with `offset`, at "PATH at OFFSET".
  void add(InodeNumber ino, std::string what) { add_at(ino, std::nullopt, std::move(what)); }
  void add_at(InodeNumber ino, std::optional<uint64_t> offset, std::string what);
  void note(std::string where, std::string what);

  uint64_t count() const { return count_; }
  /// Moves all findings and notes to `report`. `path_of` gives the paths of inodes.
  void move_to(CheckReport& report, const std::function<std::string(InodeNumber)>& path_of);

 private:
  struct Kept {
    std::optional<InodeNumber> ino;
    std::optional<uint64_t> offset;
    std::string where, what;
  };
  void keep(Kept finding);

  std::vector<Kept> kept_;
  std::vector<Finding> notes_;
  uint64_t count_ = 0;
};

/// The ranges of keys of nodes that cannot be read.
class LostKeys {
 public:
  /// Adds the keys of `node`. Adjacent nodes become one range if they are added in order.
  void add(const NodeExpectation& node);
  bool any(TreeId tree) const { return !of(tree).empty(); }
  bool may_hold(TreeId tree, const Key& key) const { return may_hold(tree, key, key); }
  /// True if a key in [first, last] may have been in an unreadable node.
  bool may_hold(TreeId tree, const Key& first, const Key& last) const;

 private:
  struct Range {
    Key lower, upper;  // [lower, upper)
  };
  std::vector<Range>& of(TreeId tree) { return ranges_[static_cast<size_t>(tree) - 1]; }
  const std::vector<Range>& of(TreeId tree) const { return ranges_[static_cast<size_t>(tree) - 1]; }

  std::array<std::vector<Range>, kTreeCount> ranges_;
};

}  // namespace moltfs::fs::checking
