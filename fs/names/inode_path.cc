// SPDX-License-Identifier: MIT
// Finds the path of an inode: of directories through their parents, of others by searching entries.
#include <fmt/format.h>

#include "fs/names/dir_entry.h"
#include "fs/names/directory.h"

namespace moltfs::fs {
namespace {

constexpr unsigned kMaxDepth = 10'000;  // more only if the parents form a loop
constexpr size_t kMaxPathBytes = 64 * 1024;
constexpr unsigned kEntriesPerStep = 1024;  // in one critical section
constexpr uint8_t kEntryType = static_cast<uint8_t>(ItemType::dir_entry);

struct Found {
  InodeNumber directory;
  std::string name;
};

/// Searches at most kEntriesPerStep items from `at` on for an entry of `ino`, in the directory of
/// `at` or in the whole tree. Advances `at`; nothing at the end.
Result<std::optional<Found>> search_step(FilesystemContext& context, InodeNumber ino,
                                         bool one_directory, std::optional<Key>& at) {
  const Key start = *at;
  return context.transactions.read([&](Access& access) -> Result<std::optional<Found>> {
    Key key = start;
    for (unsigned step = 0; step < kEntriesPerStep; ++step) {
      TRY(auto item, context.fs_tree().at_or_after(access, key));
      const bool entry = item && item->key.type == kEntryType;
      if (!item || (one_directory && (!entry || item->key.object != start.object))) {
        at.reset();
        return std::optional<Found>{};
      }
      if (!entry) {
        const bool passed = item->key.type > kEntryType;
        if (item->key.object >= kInodeNumbersEnd) {  // only a damaged tree has such items
          at.reset();
          return std::optional<Found>{};
        }
        key = entry_key(InodeNumber{item->key.object + (passed ? 1 : 0)}, 0);
        continue;
      }
      auto decoded = decode_entry(item->key, item->value);
      if (decoded && decoded.value().ino == ino) {
        return std::optional(Found{InodeNumber{item->key.object}, decoded.value().name});
      }
      key = item->key.next();
    }
    at = key;
    return std::optional<Found>{};
  });
}

Result<std::optional<Found>> search(FilesystemContext& context, InodeNumber ino,
                                    std::optional<InodeNumber> directory) {
  std::optional<Key> at = entry_key(directory.value_or(InodeNumber{0}), 0);
  while (at) {
    TRY(auto found, search_step(context, ino, directory.has_value(), at));
    if (found) return found;
  }
  return std::optional<Found>{};
}

Result<std::string> path_to_root(FilesystemContext& context, InodeNumber ino) {
  std::string path;
  for (unsigned depth = 0; ino != kRootInode; ++depth) {
    if (depth == kMaxDepth || path.size() > kMaxPathBytes) return Errc::bad_item;
    TRY(auto inode, context.transactions.read([&](Access& access) {
      return load_inode(access, context.fs_tree(), ino);
    }));
    std::optional<InodeNumber> directory;
    if (inode.is_directory()) directory = inode.parent;
    if (inode.links == 0) return Errc::not_found;
    TRY(auto found, search(context, ino, directory));
    if (!found) return Errc::not_found;
    path = "/" + found->name + path;
    ino = found->directory;
  }
  return path.empty() ? std::string("/") : path;
}

}  // namespace

std::string find_path(FilesystemContext& context, InodeNumber ino) {
  auto path = path_to_root(context, ino);
  return path ? path.value() : fmt::format("<inode {}>", ino.value);
}

}  // namespace moltfs::fs
