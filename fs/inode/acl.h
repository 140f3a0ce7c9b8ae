// SPDX-License-Identifier: MIT
// POSIX access control lists in the format of Linux's xattrs (version 2): a header, then entries of
// tag, permissions and id, ordered by tag. Semantics as in acl(5) and the kernel's fs/posix_acl.c.
//
// An *access* ACL and the mode of its inode show the same permissions: owner, other and group class
// (the mask entry, or the owning group if there is no mask) have the nine bits of the mode. A list
// that contains no more than a mode is not stored. The *default* ACL of a directory is inherited by
// new inodes in it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"

namespace moltfs::fs {

inline constexpr std::string_view kAccessAclName = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAclName = "system.posix_acl_default";

class Acl {
 public:
  enum class Tag : uint16_t {
    user_obj = 0x01,
    user = 0x02,
    group_obj = 0x04,
    group = 0x08,
    mask = 0x10,
    other = 0x20,
  };
  struct Entry {
    Tag tag;
    uint16_t permissions = 0;  ///< rwx as 4, 2, 1
    uint32_t id = 0;           ///< uid, gid; else 0xffffffff
    bool operator==(const Entry&) const = default;
  };

  /// An empty list (only a header) is valid: it requests removal. Errors: invalid_argument,
  /// not_supported (another version).
  static Result<Acl> parse(ConstBytes xattr);
  std::vector<std::byte> encode() const;

  bool empty() const { return entries_.empty(); }
  const std::vector<Entry>& entries() const { return entries_; }
  /// True if it contains more than a mode can express.
  bool is_extended() const;
  /// The nine permission bits of the mode. REQUIRES: !empty().
  uint32_t mode_bits() const;
  /// chmod: sets owner, other and group class from the mode's bits.
  void set_mode_bits(uint32_t mode);
  /// Turns the default ACL of a directory into the access ACL of a new inode that is created with
  /// `mode`; returns the inode's mode.
  uint32_t inherit(uint32_t mode);

  bool operator==(const Acl&) const = default;

 private:
  Result<void> validate() const;
  Entry& group_class();
  const Entry& group_class() const;
  Entry& entry_of(Tag tag);

  std::vector<Entry> entries_;
};

}  // namespace moltfs::fs
