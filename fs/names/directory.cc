// SPDX-License-Identifier: MIT
// Operations on names, except rename. Each is one critical section.
#include "fs/names/directory.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/inode/inode_flags.h"
#include "fs/inode/new_inode.h"
#include "fs/inode/orphan_mark.h"
#include "fs/names/dir_entry.h"

namespace moltfs::fs {
namespace {

constexpr uint64_t kDotCookie = 1;
constexpr uint64_t kDotDotCookie = 2;
// Entries fetched in one critical section by read_entries; doubled up to the larger one.
constexpr size_t kFirstBatch = 32;
constexpr size_t kMaxBatch = 256;

/// The inode of an entry. If it is missing the filesystem is damaged: bad_item, not not_found.
Result<Inode> load_named(const FilesystemContext& context, Access& access, const DirEntry& entry) {
  auto inode = load_inode(access, context.fs_tree(), entry.ino);
  if (!inode && inode.error().code == Errc::not_found) {
    return Error(Errc::bad_item, fmt::format("entry {} names inode {}, which does not exist",
                                             entry.name, entry.ino.value));
  }
  return inode;
}

Result<void> check_links(const Inode& inode) {
  if (inode.links != 0) return ok();
  return Error(Errc::bad_item, fmt::format("inode {} has a name but no links", inode.ino.value));
}

/// Makes an inode with a name. `finish` is the last of the preparations and may change the inode;
/// `also` runs with the changes.
using Finish = std::function<Result<void>(Txn&, NewInode&)>;
using Also = std::function<void(Txn&, const NewInode&)>;
Result<Attributes> make_named(FilesystemContext& context, InodeNumber parent, std::string_view name,
                              uint32_t mode, const Caller& caller, const Finish& finish,
                              const Also& also) {
  TRY(check_name(name));
  const Budget budget{NewInode::kItemChanges + 4};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<Attributes> {
    const Time now = context.now();
    TRY(auto directory, prepare_directory(context, txn, parent));
    TRY(const auto offset, prepare_new_entry(context, txn, parent, name));
    TRY(may_add_name(directory));
    TRY(auto made, NewInode::prepare(context, txn, directory, mode, caller, now));
    if (made.inode.is_directory() && directory.links >= kMaxDirectoryLinks) {
      return Errc::too_many_links;
    }
    TRY(finish(txn, made));
    made.apply(context, txn);
    also(txn, made);
    put_entry(context, txn, parent, offset, name, made.inode);
    count_entry_added(directory, name, now);
    if (made.inode.is_directory()) count_subdirectory_added(directory);
    store_inode(txn, context.fs_tree(), directory);
    context.inodes.take(made.inode.ino);
    return made.inode.attributes();
  });
}

/// Prepares giving a name to an orphan. True if it has extents beyond its end: then a truncate of
/// it is unfinished, and a mark OrphanKind::truncate has to replace its mark.
Result<bool> prepare_adoption(const FilesystemContext& context, Txn& txn, const Inode& inode) {
  const Tree& tree = context.fs_tree();
  // It is not held: it was already passed to the Reclaimer.
  if (!context.inodes.is_held(inode.ino)) return Errc::not_found;
  TRY(const auto mark, load_orphan_mark(context, txn, inode.ino));
  if (!mark) return Error(Errc::bad_item, fmt::format("orphan {} has no mark", inode.ino.value));
  TRY(tree.prepare(txn, orphan_key(inode.ino), Tree::Intent::erase));
  const Key beyond = extent_key(inode.ino, round_up(inode.size, kBlockSize));
  TRY(auto item, tree.at_or_after(txn, beyond));
  return item && item->key.object == beyond.object && item->key.type == beyond.type;
}

bool is_known_type(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

/// What one critical section of read_entries found.
struct Batch {
  std::vector<DirEntry> entries;
  std::vector<Attributes> attributes;  // with references: of each entry
};

Result<Batch> fetch_batch(FilesystemContext& context, InodeNumber directory, uint64_t after,
                          size_t count, bool references) {
  return context.transactions.read([&](Access& access) -> Result<Batch> {
    Batch batch;
    const Key first = entry_key(directory, std::max(after + 1, kFirstEntryOffset));
    const Key last = entry_key(directory, ~uint64_t{0});
    TRY(context.fs_tree().scan(access, first, last, [&](const Item& item) -> Result<bool> {
      TRY(auto entry, decode_entry(item.key, item.value));
      batch.entries.push_back(std::move(entry));
      return batch.entries.size() < count;
    }));
    if (!references) return batch;
    std::vector<Key> inodes;
    for (const DirEntry& entry : batch.entries) inodes.push_back(inode_key(entry.ino));
    TRY(context.fs_tree().gather(access, inodes));
    for (const DirEntry& entry : batch.entries) {
      TRY(auto inode, load_named(context, access, entry));
      batch.attributes.push_back(inode.attributes());
    }
    for (const DirEntry& entry : batch.entries) context.inodes.take(entry.ino);
    return batch;
  });
}

/// Visits a batch; false if the visitor stopped. References to entries that it did not take are
/// given back.
bool show_batch(FilesystemContext& context, const Batch& batch, bool references,
                const DirVisitor& visit) {
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    if (visit(batch.entries[i], references ? &batch.attributes[i] : nullptr)) continue;
    for (; references && i < batch.entries.size(); ++i) {
      context.inodes.release(batch.entries[i].ino, 1);
    }
    return false;
  }
  return true;
}

bool show_dots(const Inode& directory, uint64_t cookie, const DirVisitor& visit) {
  if (cookie < kDotCookie && !visit({directory.ino, DT_DIR, ".", kDotCookie}, nullptr)) {
    return false;
  }
  if (cookie < kDotDotCookie && !visit({directory.parent, DT_DIR, "..", kDotDotCookie}, nullptr)) {
    return false;
  }
  return true;
}

}  // namespace

Result<Attributes> lookup_name(FilesystemContext& context, InodeNumber parent,
                               std::string_view name) {
  TRY(check_name(name));
  return context.transactions.read([&](Access& access) -> Result<Attributes> {
    auto entry = require_entry(context, access, parent, name);
    if (!entry) {
      if (entry.error().code != Errc::not_found) return entry.error();
      TRY(auto directory, load_inode(access, context.fs_tree(), parent));
      if (!directory.is_directory()) return Errc::not_a_directory;
      return Errc::not_found;
    }
    TRY(auto inode, load_named(context, access, entry.value()));
    context.inodes.take(inode.ino);
    return inode.attributes();
  });
}

Result<Attributes> make_named_inode(FilesystemContext& context, InodeNumber parent,
                                    std::string_view name, uint32_t mode, uint64_t device,
                                    const Caller& caller) {
  if ((mode & S_IFMT) == 0) mode |= S_IFREG;
  if (!is_known_type(mode)) return Errc::invalid_argument;
  mode &= S_IFMT | 07777u;
  return make_named(
      context, parent, name, mode, caller,
      [&](Txn&, NewInode& made) -> Result<void> {
        if (S_ISCHR(mode) || S_ISBLK(mode)) made.inode.device = device;
        return ok();
      },
      [](Txn&, const NewInode&) {});
}

Result<Attributes> make_symlink(FilesystemContext& context, InodeNumber parent,
                                std::string_view name, std::string_view target,
                                const Caller& caller) {
  if (target.empty() || target.find('\0') != std::string_view::npos) return Errc::invalid_argument;
  if (target.size() > kMaxSymlinkBytes) return Errc::name_too_long;
  const ConstBytes bytes = std::as_bytes(std::span(target));
  const ConstBytes parts[] = {bytes.first(std::min(bytes.size(), kMaxItemBytes)),
                              bytes.subspan(std::min(bytes.size(), kMaxItemBytes))};
  const auto for_each_part = [&](InodeNumber ino, const auto& f) -> Result<void> {
    for (unsigned part = 0; part < 2 && !parts[part].empty(); ++part) {
      TRY(f(symlink_key(ino, part), parts[part]));
    }
    return ok();
  };
  return make_named(
      context, parent, name, S_IFLNK | 0777, caller,
      [&](Txn& txn, NewInode& made) -> Result<void> {
        made.inode.size = target.size();
        made.inode.flags |= kInodeInline;
        return for_each_part(made.inode.ino, [&](const Key& key, ConstBytes) {
          return context.fs_tree().prepare(txn, key, Tree::Intent::put);
        });
      },
      [&](Txn& txn, const NewInode& made) {
        (void)for_each_part(made.inode.ino, [&](const Key& key, ConstBytes part) {
          context.fs_tree().insert(txn, key, part);
          return ok();
        });
      });
}

Result<std::string> read_symlink_target(FilesystemContext& context, InodeNumber ino) {
  Inode inode;
  const auto load = [&](Access& access) -> Result<std::string> {
    TRY(inode, load_inode(access, context.fs_tree(), ino));
    if (!inode.is_symlink()) return Errc::invalid_argument;
    std::string target;
    for (unsigned part = 0; part < 2 && target.size() < inode.size; ++part) {
      TRY(auto item, context.fs_tree().find(access, symlink_key(ino, part)));
      if (item) target.append(reinterpret_cast<const char*>(item->data()), item->size());
    }
    if (target.size() != inode.size || target.find('\0') != std::string::npos) {
      return Error(Errc::bad_item, fmt::format("symlink {}: target of {} bytes instead of {}",
                                               ino.value, target.size(), inode.size));
    }
    return target;
  };
  TRY(auto target, context.transactions.read(load));
  context.note_access(inode);
  return target;
}

Result<Attributes> make_unnamed_file(FilesystemContext& context, InodeNumber parent, uint32_t mode,
                                     const Caller& caller) {
  mode = S_IFREG | (mode & 07777u);
  const Budget budget{NewInode::kItemChanges + 1};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<Attributes> {
    TRY(auto directory, prepare_directory(context, txn, parent));
    TRY(may_add_name(directory));
    TRY(auto made, NewInode::prepare(context, txn, directory, mode, caller, context.now()));
    made.inode.links = 0;
    TRY(prepare_orphan_mark(context, txn, made.inode.ino));
    made.apply(context, txn);
    put_orphan_mark(context, txn, made.inode.ino, OrphanKind::remove);
    context.inodes.take(made.inode.ino);
    context.inodes.make_orphan(made.inode.ino);
    return made.inode.attributes();
  });
}

Result<Attributes> link_inode(FilesystemContext& context, InodeNumber ino, InodeNumber parent,
                              std::string_view name) {
  TRY(check_name(name));
  return context.transactions.write(Budget{4}, [&](Txn& txn) -> Result<Attributes> {
    const Time now = context.now();
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(auto directory, prepare_directory(context, txn, parent));
    if (inode.is_directory()) return Errc::not_permitted;
    TRY(const auto offset, prepare_new_entry(context, txn, parent, name));
    TRY(may_add_name(directory));
    TRY(may_be_linked(inode));
    if (inode.links >= kMaxLinks) return Errc::too_many_links;
    const bool adopts = inode.links == 0;
    bool is_cut = false;
    if (adopts) {
      TRY(is_cut, prepare_adoption(context, txn, inode));
    }
    ++inode.links;
    inode.ctime = now;
    store_inode(txn, context.fs_tree(), inode);
    put_entry(context, txn, parent, offset, name, inode);
    count_entry_added(directory, name, now);
    store_inode(txn, context.fs_tree(), directory);
    if (adopts) {
      if (is_cut) {
        put_orphan_mark(context, txn, ino, OrphanKind::truncate);
      } else {
        context.fs_tree().erase(txn, orphan_key(ino));
      }
      context.inodes.adopt(ino);
    }
    context.inodes.take(ino);
    return inode.attributes();
  });
}

Result<void> prepare_lose_name(const FilesystemContext& context, Txn& txn, const Inode& inode) {
  TRY(check_links(inode));
  if (!inode.is_directory() && inode.links > 1) return ok();
  return prepare_orphan_mark(context, txn, inode.ino);
}

void lose_name(FilesystemContext& context, Txn& txn, Inode inode, const Time& now) {
  inode.links = inode.is_directory() ? 0 : inode.links - 1;
  inode.ctime = now;
  store_inode(txn, context.fs_tree(), inode);
  if (inode.links == 0) {
    put_orphan_mark(context, txn, inode.ino, OrphanKind::remove);
    context.inodes.make_orphan(inode.ino);
  }
}

namespace {

/// The common part of unlink and rmdir. `check` says whether this inode may be removed this way.
using Check = std::function<Result<void>(Txn&, const Inode&)>;
Result<void> remove_entry(FilesystemContext& context, InodeNumber parent, std::string_view name,
                          const Check& check) {
  TRY(check_name(name));
  const Budget budget{4, alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    const Time now = context.now();
    const Tree& tree = context.fs_tree();
    TRY(auto directory, prepare_directory(context, txn, parent));
    TRY(auto entry, require_entry(context, txn, parent, name));
    TRY(auto inode, load_named(context, txn, entry));
    TRY(may_remove_name(directory, inode));
    TRY(check(txn, inode));
    const Key key = entry_key(parent, entry.cookie);
    TRY(tree.prepare(txn, inode_key(inode.ino), Tree::Intent::put));
    TRY(prepare_lose_name(context, txn, inode));
    TRY(tree.prepare(txn, key, Tree::Intent::erase));
    tree.erase(txn, key);
    count_entry_removed(directory, name, now);
    if (inode.is_directory()) count_subdirectory_removed(directory);
    store_inode(txn, tree, directory);
    lose_name(context, txn, inode, now);
    return ok();
  });
}

}  // namespace

Result<void> unlink_name(FilesystemContext& context, InodeNumber parent, std::string_view name) {
  return remove_entry(context, parent, name, [](Txn&, const Inode& inode) -> Result<void> {
    if (inode.is_directory()) return Errc::is_a_directory;
    return ok();
  });
}

Result<void> remove_empty_directory(FilesystemContext& context, InodeNumber parent,
                                    std::string_view name) {
  return remove_entry(context, parent, name, [&](Txn& txn, const Inode& inode) -> Result<void> {
    if (!inode.is_directory()) return Errc::not_a_directory;
    TRY(const bool empty, is_empty_directory(context, txn, inode.ino));
    if (!empty) return Errc::directory_not_empty;
    return ok();
  });
}

Result<void> read_entries(FilesystemContext& context, InodeNumber directory, uint64_t cookie,
                          bool references, const DirVisitor& visit, bool is_access) {
  TRY(auto inode, context.transactions.read([&](Access& access) {
    return load_inode(access, context.fs_tree(), directory);
  }));
  if (!inode.is_directory()) return Errc::not_a_directory;
  if (inode.links == 0) return ok();
  if (cookie == 0 && is_access) context.note_access(inode);
  if (!show_dots(inode, cookie, visit)) return ok();
  for (size_t count = kFirstBatch;; count = std::min(count * 2, kMaxBatch)) {
    TRY(auto batch, fetch_batch(context, directory, cookie, count, references));
    if (!show_batch(context, batch, references, visit)) return ok();
    if (batch.entries.size() < count) return ok();
    cookie = batch.entries.back().cookie;
  }
}

}  // namespace moltfs::fs
