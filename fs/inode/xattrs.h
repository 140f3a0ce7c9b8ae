// SPDX-License-Identifier: MIT
// Inside fs only: extended attributes. fs/filesystem.h has the contracts, fs/format.h the items.
//
// Namespaces: user (only on regular files and directories), trusted, security, and the two POSIX
// ACLs of system, which change together with the mode (fs/inode/acl.h). Limits are those of Linux.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/inode/context.h"

namespace moltfs::fs {

inline constexpr std::string_view kCapabilityName = "security.capability";
/// An ACL has to fit into one item, so that inheriting it is a change of known size.
inline constexpr size_t kMaxAclBytes = kMaxItemBytes - sizeof(XattrOnDisk) - 32;

Result<std::vector<std::byte>> get_xattr(FilesystemContext& context, InodeNumber ino,
                                         std::string_view name);
Result<void> set_xattr(FilesystemContext& context, InodeNumber ino, std::string_view name,
                       ConstBytes value, XattrMode mode, bool kill_sgid);
Result<void> remove_xattr(FilesystemContext& context, InodeNumber ino, std::string_view name);
Result<std::vector<std::string>> list_xattrs(FilesystemContext& context, InodeNumber ino);
/// Removes all attributes of an inode that is being removed, in several critical sections.
Result<void> drop_xattrs(FilesystemContext& context, InodeNumber ino);

/// The first item of an attribute, decoded and checked.
struct XattrHead {
  std::string_view name;  ///< valid as long as the item view
  uint32_t value_length = 0;
  unsigned part_count = 0;
  ConstBytes first_part;
};
/// Error: bad_item.
Result<XattrHead> decode_xattr(const Key& key, ConstBytes value);
/// The part number in a key.
constexpr unsigned xattr_part_of(const Key& key) {
  return key.offset & 0xff;
}

// In a critical section.
Result<std::optional<std::vector<std::byte>>> load_xattr(const FilesystemContext& context,
                                                         Access& access, InodeNumber ino,
                                                         std::string_view name);

/// A change of one attribute within a larger operation: first prepared, then applied with the rest.
class XattrChange {
 public:
  /// Sets `name`, or removes it if there is no value. A new name gets slot `first_slot` or a later
  /// one; two attributes that are prepared in one critical section need different first slots.
  /// Errors: node_missing, bad_item, no_space (all slots are taken).
  static Result<XattrChange> prepare(const FilesystemContext& context, Txn& txn, InodeNumber ino,
                                     std::string_view name, std::optional<ConstBytes> value,
                                     unsigned first_slot = 0);
  bool existed() const { return existed_; }
  unsigned item_changes() const { return static_cast<unsigned>(puts_.size() + erases_.size()); }
  void apply(const FilesystemContext& context, Txn& txn) const;

 private:
  struct Put {
    Key key;
    std::vector<std::byte> value;
  };
  void split(Key at, std::string_view name, ConstBytes value);

  bool existed_ = false;
  std::vector<Put> puts_;
  std::vector<Key> erases_;
};

}  // namespace moltfs::fs
