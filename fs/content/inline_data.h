// SPDX-License-Identifier: MIT
// Inside fs only: content of small files, kept in an item of the fs tree instead of extents.
//
// A file is inline (kInodeInline is set, one inline_data item of exactly `size` bytes, no extents)
// or not (no such item). An empty file is not inline.
#pragma once

#include <vector>

#include "fs/inode/context.h"

namespace moltfs::fs {

/// True if content up to `end` may be inline: the file has no extents and is small enough.
inline bool fits_inline(const Inode& inode, uint64_t end) {
  return inode.allocated_bytes == 0 && inode.size <= kMaxInlineBytes && end <= kMaxInlineBytes;
}

// In a critical section.

/// REQUIRES: inode.is_inline(). Errors: node_missing, bad_item.
Result<std::vector<std::byte>> load_inline(Access& access, const FilesystemContext& context,
                                           const Inode& inode);
/// The content of a small file: inline, or zeros if it is not inline. REQUIRES:
/// fits_inline(inode, 0).
Result<std::vector<std::byte>> load_small_content(Access& access, const FilesystemContext& context,
                                                  const Inode& inode);

/// The new content of a small file. Changes one item besides the inode's.
class InlineChange {
 public:
  static constexpr unsigned kItemChanges = 1;
  InlineChange(const FilesystemContext& context, InodeNumber ino) : context_(context), ino_(ino) {}
  /// `content`: of the whole file; may be empty.
  Result<void> prepare(Txn& txn, const Inode& inode, std::vector<std::byte> content);
  /// Also sets size and flags of `inode`.
  void apply(Txn& txn, Inode& inode);

 private:
  const FilesystemContext& context_;
  const InodeNumber ino_;
  std::vector<std::byte> content_;
  bool existed_ = false;
};

/// Removes the inline items of a file whose content moves to extents, or of an inode that
/// is removed.
class InlineRemoval {
 public:
  static constexpr unsigned kItemChanges = 2;  ///< long symlinks have two items
  InlineRemoval(const FilesystemContext& context, const Inode& inode)
      : context_(context), ino_(inode.ino), wanted_(inode.is_inline() || inode.is_symlink()) {}
  Result<void> prepare(Txn& txn);
  /// Clears the flag of `inode`.
  void apply(Txn& txn, Inode& inode);

 private:
  const FilesystemContext& context_;
  const InodeNumber ino_;
  const bool wanted_;
  std::vector<Key> keys_;
};

}  // namespace moltfs::fs
