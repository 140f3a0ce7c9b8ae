// SPDX-License-Identifier: MIT
// Inside fs only: directory entries as items of the fs tree.
//
// The key offset of an entry, which is also its readdir cookie, is a hash of its name with a slot
// number in the low 8 bits. Slots of one hash are taken in any order and may have gaps, so a search
// for a name checks all of them.
#pragma once

#include <optional>
#include <string_view>

#include "fs/inode/context.h"

namespace moltfs::fs {

/// Errors: invalid_argument, name_too_long.
Result<void> check_name(std::string_view name);
/// Key offset of slot 0 for `name`. `mask` is Options::name_hash_mask.
uint64_t entry_offset(std::string_view name, uint64_t seed, uint64_t mask = ~uint64_t{0});
/// Decodes and checks a dir_entry item. Error: bad_item.
Result<DirEntry> decode_entry(const Key& key, ConstBytes value);
/// The DT_* type of a mode.
uint8_t entry_type(uint32_t mode);

/// For a name: its entry, or else the offset for a new one. Neither: no_space.
struct EntryPlace {
  std::optional<DirEntry> entry;
  std::optional<uint64_t> free_offset;
};

// In a critical section. Further errors: node_missing, bad_item.
Result<EntryPlace> find_entry(const FilesystemContext& context, Access& access,
                              InodeNumber directory, std::string_view name);
/// Error: not_found.
Result<DirEntry> require_entry(const FilesystemContext& context, Access& access,
                               InodeNumber directory, std::string_view name);
/// Prepares a new entry and returns its offset. Errors: already_exists, no_space.
Result<uint64_t> prepare_new_entry(const FilesystemContext& context, Txn& txn,
                                   InodeNumber directory, std::string_view name);
/// REQUIRES: prepared. Inserts or updates. The caller changes the directory's inode.
void put_entry(const FilesystemContext& context, Txn& txn, InodeNumber directory, uint64_t offset,
               std::string_view name, const Inode& inode);
Result<bool> is_empty_directory(const FilesystemContext& context, Access& access,
                                InodeNumber directory);
/// Loads a directory that is to be changed and prepares its inode. Errors: not_a_directory,
/// not_found (also if it was removed).
Result<Inode> prepare_directory(FilesystemContext& context, Txn& txn, InodeNumber directory);

/// Updates the directory's inode after a name was added or removed.
void count_entry_added(Inode& directory, std::string_view name, const Time& now);
void count_entry_removed(Inode& directory, std::string_view name, const Time& now);
/// The same for the ".." of a subdirectory, which is a link to the directory.
void count_subdirectory_added(Inode& directory);
void count_subdirectory_removed(Inode& directory);

}  // namespace moltfs::fs
