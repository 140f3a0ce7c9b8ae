// SPDX-License-Identifier: MIT
// Inside fs only: operations on names. fs/filesystem.h has the contracts.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

Result<Attributes> lookup_name(FilesystemContext& context, InodeNumber parent,
                               std::string_view name);
Result<Attributes> make_named_inode(FilesystemContext& context, InodeNumber parent,
                                    std::string_view name, uint32_t mode, uint64_t device,
                                    const Caller& caller);
Result<Attributes> make_unnamed_file(FilesystemContext& context, InodeNumber parent, uint32_t mode,
                                     const Caller& caller);
Result<Attributes> make_symlink(FilesystemContext& context, InodeNumber parent,
                                std::string_view name, std::string_view target,
                                const Caller& caller);
Result<Attributes> link_inode(FilesystemContext& context, InodeNumber ino, InodeNumber parent,
                              std::string_view name);
Result<void> unlink_name(FilesystemContext& context, InodeNumber parent, std::string_view name);
Result<void> remove_empty_directory(FilesystemContext& context, InodeNumber parent,
                                    std::string_view name);
Result<void> rename_entry(FilesystemContext& context, InodeNumber parent, std::string_view name,
                          InodeNumber new_parent, std::string_view new_name, RenameMode mode,
                          const Caller& caller);
Result<std::string> read_symlink_target(FilesystemContext& context, InodeNumber ino);
Result<void> read_entries(FilesystemContext& context, InodeNumber directory, uint64_t cookie,
                          bool references, const DirVisitor& visit, bool is_access);

/// A path of `ino` from the root; see Filesystem::path_of. Slow.
std::string find_path(FilesystemContext& context, InodeNumber ino);

/// The target of a symlink is in one or two items, of at most kMaxItemBytes each.
constexpr Key symlink_key(InodeNumber ino, unsigned part) {
  return key_of(ItemType::inline_data, ino.value, part);
}

// In a critical section: an inode loses a name.
/// REQUIRES: `inode` is loaded and has a name. Prepares lose_name.
Result<void> prepare_lose_name(const FilesystemContext& context, Txn& txn, const Inode& inode);
/// Decrements the links (a directory loses all), makes the inode an orphan if there are none left,
/// and stores it. REQUIRES: the last change of the critical section, because the orphan may be
/// passed to the Reclaimer.
void lose_name(FilesystemContext& context, Txn& txn, Inode inode, const Time& now);

}  // namespace moltfs::fs
