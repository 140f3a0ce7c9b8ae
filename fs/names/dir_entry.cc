// SPDX-License-Identifier: MIT
// Directory entries: hashing, finding, encoding.
#include "fs/names/dir_entry.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bitset>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/base/load.h"

namespace moltfs::fs {
namespace {

bool is_valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

bool is_valid_type(uint8_t type) {
  switch (type) {
    case DT_REG:
    case DT_DIR:
    case DT_LNK:
    case DT_CHR:
    case DT_BLK:
    case DT_FIFO:
    case DT_SOCK:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<void> check_name(std::string_view name) {
  if (name.size() > kMaxNameBytes) return Errc::name_too_long;
  if (!is_valid_name(name)) return Errc::invalid_argument;
  return ok();
}

uint64_t entry_offset(std::string_view name, uint64_t seed, uint64_t mask) {
  const uint64_t hash = hash_of(name, seed) & mask & kEntryHashBits;
  return std::max(hash, kFirstEntryOffset);
}

uint8_t entry_type(uint32_t mode) {
  return static_cast<uint8_t>((mode & S_IFMT) >> 12);  // IFTODT
}

Result<DirEntry> decode_entry(const Key& key, ConstBytes value) {
  const auto bad = [&](const char* what) {
    return Error(Errc::bad_item,
                 fmt::format("entry {:#x} of directory {}: {}", key.offset, key.object, what));
  };
  const auto loaded = load<DirEntryOnDisk>(value);
  if (!loaded) return bad("item too short");
  const DirEntryOnDisk& disk = *loaded;
  const ConstBytes tail = value.subspan(sizeof(disk));
  if (tail.size() != disk.name_length) return bad("wrong name length");
  DirEntry entry;
  entry.ino = InodeNumber{disk.inode};
  entry.type = disk.type;
  entry.name.assign(reinterpret_cast<const char*>(tail.data()), tail.size());
  entry.cookie = key.offset;
  if (!is_valid_name(entry.name)) return bad("impossible name");
  if (!is_valid_type(entry.type)) return bad("impossible type");
  if (entry.ino == kRootInode || !is_inode_number(entry.ino)) {
    return bad("impossible inode number");
  }
  if (key.offset < kFirstEntryOffset || key.offset > kLastEntryOffset)
    return bad("impossible offset");
  return entry;
}

Result<EntryPlace> find_entry(const FilesystemContext& context, Access& access,
                              InodeNumber directory, std::string_view name) {
  const uint64_t first =
      entry_offset(name, access.counters().hash_seed, context.options.name_hash_mask);
  EntryPlace place;
  std::bitset<kSlotsPerHash> taken;
  const Key first_key = entry_key(directory, first);
  const Key last_key = entry_key(directory, first + kSlotsPerHash - 1);
  TRY(context.fs_tree().scan(access, first_key, last_key, [&](const Item& item) -> Result<bool> {
    TRY(auto entry, decode_entry(item.key, item.value));
    taken.set(item.key.offset - first);
    if (entry.name != name) return true;
    place.entry = std::move(entry);
    return false;
  }));
  if (place.entry) return place;
  for (uint64_t slot = 0; slot < kSlotsPerHash && !place.free_offset; ++slot) {
    if (!taken[slot]) place.free_offset = first + slot;
  }
  return place;
}

Result<DirEntry> require_entry(const FilesystemContext& context, Access& access,
                               InodeNumber directory, std::string_view name) {
  TRY(auto place, find_entry(context, access, directory, name));
  if (!place.entry) return Errc::not_found;
  return std::move(*place.entry);
}

Result<uint64_t> prepare_new_entry(const FilesystemContext& context, Txn& txn,
                                   InodeNumber directory, std::string_view name) {
  TRY(auto place, find_entry(context, txn, directory, name));
  if (place.entry) return Errc::already_exists;
  if (!place.free_offset) return Errc::no_space;
  TRY(context.fs_tree().prepare(txn, entry_key(directory, *place.free_offset), Tree::Intent::put));
  return *place.free_offset;
}

void put_entry(const FilesystemContext& context, Txn& txn, InodeNumber directory, uint64_t offset,
               std::string_view name, const Inode& inode) {
  DirEntryOnDisk disk;
  disk.inode = inode.ino.value;
  disk.type = entry_type(inode.mode);
  disk.name_length = static_cast<uint8_t>(name.size());
  ByteWriter writer;
  writer.object(disk);
  writer.bytes(std::as_bytes(std::span(name)));
  context.fs_tree().put(txn, entry_key(directory, offset), writer.span());
}

Result<bool> is_empty_directory(const FilesystemContext& context, Access& access,
                                InodeNumber directory) {
  const Key first = entry_key(directory, 0);
  TRY(auto item, context.fs_tree().at_or_after(access, first));
  return !item || item->key.object != first.object || item->key.type != first.type;
}

Result<Inode> prepare_directory(FilesystemContext& context, Txn& txn, InodeNumber directory) {
  TRY(auto inode, prepare_inode(txn, context.fs_tree(), directory));
  if (!inode.is_directory()) return Errc::not_a_directory;
  if (inode.links == 0) return Errc::not_found;
  if ((inode.flags & kInodeDirSync) != 0) context.met_synced_directory = true;
  return inode;
}

void count_entry_added(Inode& directory, std::string_view name, const Time& now) {
  directory.size = std::min(directory.size + entry_size_bytes(name.size()), kMaxFileBytes);
  directory.mtime = directory.ctime = now;
}

void count_entry_removed(Inode& directory, std::string_view name, const Time& now) {
  directory.size -= std::min(directory.size, entry_size_bytes(name.size()));
  directory.mtime = directory.ctime = now;
}

void count_subdirectory_added(Inode& directory) {
  ++directory.links;
}

void count_subdirectory_removed(Inode& directory) {
  if (directory.links > 2) --directory.links;
}

}  // namespace moltfs::fs
