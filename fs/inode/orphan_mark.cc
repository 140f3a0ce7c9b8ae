// SPDX-License-Identifier: MIT
// Loading, checking and storing orphan marks.
#include "fs/inode/orphan_mark.h"

#include <fmt/format.h>

#include "alloc/base/load.h"

namespace moltfs::fs {

Result<std::optional<OrphanKind>> load_orphan_mark(const FilesystemContext& context, Access& access,
                                                   InodeNumber ino) {
  TRY(auto value, context.fs_tree().find(access, orphan_key(ino)));
  if (!value) return std::optional<OrphanKind>();
  TRY(const auto kind, decode_orphan_mark(orphan_key(ino), *value));
  return std::optional(kind);
}

Result<void> prepare_orphan_mark(const FilesystemContext& context, Txn& txn, InodeNumber ino) {
  return context.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::put);
}

void put_orphan_mark(const FilesystemContext& context, Txn& txn, InodeNumber ino, OrphanKind kind) {
  OrphanOnDisk disk;
  disk.what = static_cast<uint8_t>(kind);
  context.fs_tree().put(txn, orphan_key(ino), object_bytes(disk));
}

Result<OrphanKind> decode_orphan_mark(const Key& key, ConstBytes value) {
  const auto disk = load_exactly<OrphanOnDisk>(value);
  const InodeNumber ino{key.offset};
  if (disk && ino != kRootInode && is_inode_number(ino)) {
    const auto kind = static_cast<OrphanKind>(disk->what.value());
    if (kind == OrphanKind::remove || kind == OrphanKind::truncate) return kind;
  }
  return Error(Errc::bad_item, fmt::format("orphan mark of inode {}: impossible", key.offset));
}

}  // namespace moltfs::fs
