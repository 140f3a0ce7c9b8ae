// SPDX-License-Identifier: MIT
// Marks of orphans and of interrupted truncates.
#include "fs/inode/orphan_mark.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

namespace moltfs::fs {

Result<void> prepare_orphan(const FilesystemContext& context, Txn& txn, InodeNumber ino) {
  return context.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::put);
}

void put_orphan(const FilesystemContext& context, Txn& txn, InodeNumber ino, OrphanKind kind) {
  OrphanOnDisk disk;
  disk.what = static_cast<uint8_t>(kind);
  context.fs_tree().put(txn, orphan_key(ino), std::as_bytes(std::span(&disk, 1)));
}

Result<OrphanKind> decode_orphan(const Key& key, ConstBytes value) {
  OrphanOnDisk disk;
  if (value.size() == sizeof(disk) && key.offset >= kFirstFreeInode.value) {
    std::memcpy(&disk, value.data(), sizeof(disk));
    const auto kind = static_cast<OrphanKind>(static_cast<uint8_t>(disk.what));
    if (kind == OrphanKind::remove || kind == OrphanKind::truncate) return kind;
  }
  return Error(Errc::bad_item, fmt::format("orphan mark of inode {}: impossible", key.offset));
}

void forget_inode(FilesystemContext& context, InodeNumber ino, uint64_t count) {
  if (context.inodes.give_back(ino, count)) context.reclaim(ino);
}

}  // namespace moltfs::fs
