// SPDX-License-Identifier: MIT
// Inside fs only: the entries of directories as items of the fs tree.
//
// An entry's key offset, which is also its readdir cookie, is a hash of its name with a slot number
// in the low 8 bits. Slots of one hash are taken in any order and may have gaps, so whoever looks
// for a name looks at all of them.
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
/// DT_* of a mode.
uint8_t entry_type(uint32_t mode);

/// What there is for a name: its entry, else a place for one (neither: no_space).
struct EntryPlace {
  std::optional<DirEntry> entry;
  std::optional<uint64_t> free_offset;
};

// In a critical section. Errors besides those said: node_missing, bad_item.
Result<EntryPlace> find_entry(const FilesystemContext& context, Access& access,
                              InodeNumber directory, std::string_view name);
/// Error: not_found.
Result<DirEntry> require_entry(const FilesystemContext& context, Access& access,
                               InodeNumber directory, std::string_view name);
/// Prepares the place for a new entry and returns its offset. Errors: already_exists, no_space.
Result<uint64_t> prepare_new_entry(const FilesystemContext& context, Txn& txn,
                                   InodeNumber directory, std::string_view name);
/// REQUIRES: prepared. Inserts or updates; the directory's inode is the caller's business.
void put_entry(const FilesystemContext& context, Txn& txn, InodeNumber directory, uint64_t offset,
               std::string_view name, const Inode& inode);
Result<bool> is_empty_directory(const FilesystemContext& context, Access& access,
                                InodeNumber directory);
/// Loads a directory that takes changes and prepares its inode. Errors: not_a_directory, not_found
/// (also if it was removed).
Result<Inode> prepare_directory(FilesystemContext& context, Txn& txn, InodeNumber directory);

/// Notes in the directory's inode that a name came or went.
void count_entry_added(Inode& directory, std::string_view name, const Time& now);
void count_entry_removed(Inode& directory, std::string_view name, const Time& now);
/// A subdirectory came or went: its ".." is a link.
void count_subdirectory_added(Inode& directory);
void count_subdirectory_removed(Inode& directory);

}  // namespace moltfs::fs
