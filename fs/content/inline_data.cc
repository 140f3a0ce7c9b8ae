// SPDX-License-Identifier: MIT
// Content of small files in an item of the fs tree.
#include "fs/content/inline_data.h"

#include <fmt/format.h>

namespace moltfs::fs {

Result<std::vector<std::byte>> load_inline(Access& access, const FilesystemContext& context,
                                           const Inode& inode) {
  TRY(auto value, context.fs_tree().find(access, inline_key(inode.ino)));
  if (!value || value->size() != inode.size) {
    return Error(Errc::bad_item,
                 fmt::format("inode {}: {} inline bytes instead of {}", inode.ino.value,
                             value ? value->size() : 0, inode.size));
  }
  return std::vector<std::byte>(value->begin(), value->end());
}

Result<std::vector<std::byte>> load_small_content(Access& access, const FilesystemContext& context,
                                                  const Inode& inode) {
  if (inode.is_inline()) return load_inline(access, context, inode);
  return std::vector<std::byte>(inode.size);
}

Result<void> InlineChange::prepare(Txn& txn, const Inode& inode, std::vector<std::byte> content) {
  content_ = std::move(content);
  existed_ = inode.is_inline();
  const bool erases = content_.empty();
  if (erases && !existed_) return ok();
  return context_.fs_tree().prepare(txn, inline_key(ino_),
                                    erases ? Tree::Intent::erase : Tree::Intent::put);
}

void InlineChange::apply(Txn& txn, Inode& inode) {
  inode.size = content_.size();
  if (!content_.empty()) {
    inode.flags |= kInodeInline;
    context_.fs_tree().put(txn, inline_key(ino_), content_);
    return;
  }
  inode.flags &= ~kInodeInline;
  if (existed_) context_.fs_tree().erase(txn, inline_key(ino_));
}

Result<void> InlineRemoval::prepare(Txn& txn) {
  if (!wanted_) return ok();
  for (uint64_t part = 0; part < kItemChanges; ++part) {
    const Key key = key_of(ItemType::inline_data, ino_.value, part);
    TRY(auto value, context_.fs_tree().find(txn, key));
    if (!value) continue;
    TRY(context_.fs_tree().prepare(txn, key, Tree::Intent::erase));
    keys_.push_back(key);
  }
  return ok();
}

void InlineRemoval::apply(Txn& txn, Inode& inode) {
  for (const Key& key : keys_) context_.fs_tree().erase(txn, key);
  inode.flags &= ~kInodeInline;
}

}  // namespace moltfs::fs
