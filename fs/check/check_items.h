// SPDX-License-Identifier: MIT
// Used by check only: the items of the fs tree, one inode after the other. Rules within an inode
// are checked here; what concerns several inodes goes to InodeStates and ExtentSums.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fs/check/check_findings.h"
#include "fs/check/check_inodes.h"
#include "fs/check/extent_sums.h"
#include "fs/inode/xattrs.h"

namespace moltfs::fs::checking {

class ItemCheck {
 public:
  ItemCheck(Findings& findings, const LostKeys& lost, InodeStates& states, ExtentSums& sums,
            uint64_t hash_seed)
      : findings_(findings), lost_(lost), states_(states), sums_(sums), hash_seed_(hash_seed) {}

  /// To be called for all items of the tree, ascending; then end().
  void item(const Item& item);
  void end();
  uint64_t extent_count() const { return extent_count_; }

 private:
  /// What was seen of the current inode so far.
  struct Object {
    InodeNumber ino;
    bool has_inode = false;
    std::optional<Inode> inode;  // if it is valid
    uint64_t other_items = 0;
    // Directory.
    uint64_t entries_bytes = 0;
    Key names_key;                   // (object, type, hash) of `names`
    std::vector<std::string> names;  // of the last entries or attributes with one hash
    // Content.
    unsigned inline_items = 0;
    uint64_t inline_bytes = 0;
    bool has_zero_byte = false;  // inline
    uint64_t extents = 0, allocated_bytes = 0, extent_end = 0, written_end = 0;
  };
  /// The attribute of which parts are expected.
  struct Attribute {
    Key first;
    std::string name;
    unsigned part_count = 0, parts = 0;
    uint64_t value_length = 0, bytes = 0;
    bool is_full = false;  // the last part, so that another one may follow
  };

  void mark(const Item& item);
  void inode(const Item& item);
  void xattr(const Item& item);
  void xattr_head(const Item& item);
  void end_attribute();
  void check_acl(const XattrHead& head);
  void entry(const Item& item);
  void inline_data(const Item& item);
  void extent(const Item& item);
  void end_object();
  void check_directory(const Inode& inode);
  void check_content(const Inode& inode);
  void check_inline(const Inode& inode);
  /// Remembers `name`. True if it was seen under this key before.
  bool note_name(const Key& key, const std::string& name);
  /// The current inode is being removed, in several steps: its attributes and content may be
  /// incomplete.
  bool is_doomed() const;
  void add_finding(std::string what) { findings_.add(object_.ino, std::move(what)); }

  Findings& findings_;
  const LostKeys& lost_;
  InodeStates& states_;
  ExtentSums& sums_;
  const uint64_t hash_seed_;
  Object object_;
  std::optional<Attribute> attribute_;
  uint64_t extent_count_ = 0;
};

}  // namespace moltfs::fs::checking
