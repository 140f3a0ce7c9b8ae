// SPDX-License-Identifier: MIT
// rename: moves a name, replaces another name, exchanges two names, leaves a whiteout. One
// critical section.
#include <fmt/format.h>
#include <sys/stat.h>

#include <optional>

#include "fs/inode/inode_flags.h"
#include "fs/inode/new_inode.h"
#include "fs/names/dir_entry.h"
#include "fs/names/directory.h"

namespace moltfs::fs {
namespace {

/// One run of the critical section: load and check, prepare, apply.
class Renaming {
 public:
  struct Names {
    InodeNumber from_directory;
    std::string_view from;
    InodeNumber to_directory;
    std::string_view to;
  };
  Renaming(FilesystemContext& context, Txn& txn, const Names& names, RenameMode mode,
           const Caller& caller)
      : context_(context),
        tree_(context.fs_tree()),
        txn_(txn),
        names_(names),
        mode_(mode),
        caller_(caller),
        now_(context.now()) {}

  Result<void> run() {
    TRY(load());
    if (to_entry_ && to_entry_->ino == from_entry_.ino) {
      if (mode_ == RenameMode::no_replace) return Errc::already_exists;
      return ok();  // two names of one inode: nothing to do
    }
    TRY(check());
    TRY(prepare());
    if (mode_ == RenameMode::exchange) {
      exchange();
    } else {
      move();
    }
    return ok();
  }

 private:
  bool same_directory() const { return names_.from_directory == names_.to_directory; }
  Inode& to_directory() { return other_directory_ ? *other_directory_ : from_directory_; }

  Result<Inode> load_entry(const DirEntry& entry) {
    auto inode = prepare_inode(txn_, tree_, entry.ino);
    if (!inode && inode.error().code == Errc::not_found) {
      return Error(Errc::bad_item, fmt::format("entry {} names inode {}, which does not exist",
                                               entry.name, entry.ino.value));
    }
    return inode;
  }

  Result<void> load() {
    TRY(from_directory_, prepare_directory(context_, txn_, names_.from_directory));
    if (!same_directory()) {
      TRY(other_directory_, prepare_directory(context_, txn_, names_.to_directory));
    }
    TRY(from_entry_, require_entry(context_, txn_, names_.from_directory, names_.from));
    TRY(moved_, load_entry(from_entry_));
    TRY(auto place, find_entry(context_, txn_, names_.to_directory, names_.to));
    to_entry_ = std::move(place.entry);
    if (to_entry_) {
      to_offset_ = to_entry_->cookie;
      TRY(replaced_, load_entry(*to_entry_));
    } else {
      if (!place.free_offset) return Errc::no_space;
      to_offset_ = *place.free_offset;
    }
    return ok();
  }

  /// Error: invalid_argument if `directory` is `ancestor` or lies below it.
  Result<void> check_not_within(InodeNumber directory, InodeNumber ancestor) {
    // In a damaged filesystem the parents may form a loop. The chain comes back to `mark` then,
    // which moves after 1, 2, 4, ... steps (Brent, An improved Monte Carlo factorization
    // algorithm, 1980).
    InodeNumber mark;
    for (uint64_t steps = 0, next_mark = 1; directory != mark; ++steps) {
      if (directory == ancestor) return Errc::invalid_argument;
      if (directory == kRootInode) return ok();
      if (steps == next_mark) {
        mark = directory;
        next_mark *= 2;
      }
      TRY(auto inode, load_inode(txn_, tree_, directory));
      directory = inode.parent;
    }
    return Error(Errc::bad_item, fmt::format("the parents of directory {} do not lead to the root",
                                             directory.value));
  }

  Result<void> check() {
    if (mode_ == RenameMode::exchange && !to_entry_) return Errc::not_found;
    if (mode_ == RenameMode::no_replace && to_entry_) return Errc::already_exists;
    if (moved_.is_directory() && !same_directory()) {
      TRY(check_not_within(names_.to_directory, moved_.ino));
    }
    if (mode_ == RenameMode::exchange) {
      if (replaced_->is_directory() && !same_directory()) {
        TRY(check_not_within(names_.from_directory, replaced_->ino));
      }
    }
    TRY(check_flags());
    if (replaced_ && mode_ != RenameMode::exchange) {
      if (moved_.is_directory() && !replaced_->is_directory()) return Errc::not_a_directory;
      if (!moved_.is_directory() && replaced_->is_directory()) return Errc::is_a_directory;
      if (replaced_->is_directory()) {
        TRY(const bool empty, is_empty_directory(context_, txn_, replaced_->ino));
        if (!empty) return Errc::directory_not_empty;
      }
    }
    return check_link_limits();
  }

  Result<void> check_flags() {
    TRY(may_remove_name(from_directory_, moved_));
    return replaced_ ? may_remove_name(to_directory(), *replaced_) : may_add_name(to_directory());
  }

  Result<void> check_link_limits() {
    if (same_directory()) return ok();
    const bool comes = moved_.is_directory();
    const bool goes = replaced_ && replaced_->is_directory();
    if (comes && !goes && to_directory().links >= kMaxDirectoryLinks) return Errc::too_many_links;
    if (mode_ == RenameMode::exchange && goes && !comes &&
        from_directory_.links >= kMaxDirectoryLinks) {
      return Errc::too_many_links;
    }
    return ok();
  }

  Result<void> prepare() {
    const bool leaves = mode_ == RenameMode::exchange || mode_ == RenameMode::whiteout;
    const auto intent = leaves ? Tree::Intent::put : Tree::Intent::erase;
    TRY(tree_.prepare(txn_, from_key(), intent));
    TRY(tree_.prepare(txn_, to_key(), Tree::Intent::put));
    if (mode_ == RenameMode::whiteout) {
      TRY(whiteout_, NewInode::prepare(context_, txn_, from_directory_, S_IFCHR, caller_, now_));
    }
    if (replaced_ && mode_ != RenameMode::exchange) {
      TRY(prepare_lose_name(context_, txn_, *replaced_));
    }
    return ok();
  }

  void exchange() {
    put_entry(context_, txn_, names_.from_directory, from_entry_.cookie, names_.from, *replaced_);
    put_entry(context_, txn_, names_.to_directory, to_offset_, names_.to, moved_);
    from_directory_.mtime = from_directory_.ctime = now_;
    to_directory().mtime = to_directory().ctime = now_;
    moved_.ctime = replaced_->ctime = now_;
    move_parent(moved_, from_directory_, to_directory());
    move_parent(*replaced_, to_directory(), from_directory_);
    store_inode(txn_, tree_, *replaced_);
    store_directories();
    store_inode(txn_, tree_, moved_);
  }

  void move() {
    if (whiteout_) {
      whiteout_->apply(context_, txn_);
      put_entry(context_, txn_, names_.from_directory, from_entry_.cookie, names_.from,
                whiteout_->inode);
      from_directory_.mtime = from_directory_.ctime = now_;
    } else {
      tree_.erase(txn_, from_key());
      count_entry_removed(from_directory_, names_.from, now_);
    }
    put_entry(context_, txn_, names_.to_directory, to_offset_, names_.to, moved_);
    if (replaced_) {
      to_directory().mtime = to_directory().ctime = now_;
      if (replaced_->is_directory()) count_subdirectory_removed(to_directory());
    } else {
      count_entry_added(to_directory(), names_.to, now_);
    }
    moved_.ctime = now_;
    move_parent(moved_, from_directory_, to_directory());
    store_directories();
    store_inode(txn_, tree_, moved_);
    if (replaced_) lose_name(context_, txn_, *replaced_, now_);
  }

  void move_parent(Inode& inode, Inode& from, Inode& to) {
    if (!inode.is_directory()) return;
    inode.parent = to.ino;
    count_subdirectory_removed(from);
    count_subdirectory_added(to);
  }

  void store_directories() {
    store_inode(txn_, tree_, from_directory_);
    if (other_directory_) store_inode(txn_, tree_, *other_directory_);
  }

  Key from_key() const { return entry_key(names_.from_directory, from_entry_.cookie); }
  Key to_key() const { return entry_key(names_.to_directory, to_offset_); }

  FilesystemContext& context_;
  const Tree& tree_;
  Txn& txn_;
  const Names& names_;
  const RenameMode mode_;
  const Caller& caller_;
  const Time now_;

  Inode from_directory_;
  std::optional<Inode> other_directory_;  // the directory moved to, if it is another one
  DirEntry from_entry_;
  Inode moved_;
  std::optional<DirEntry> to_entry_;
  uint64_t to_offset_ = 0;
  std::optional<Inode> replaced_;
  std::optional<NewInode> whiteout_;
};

}  // namespace

Result<void> rename_entry(FilesystemContext& context, InodeNumber parent, std::string_view name,
                          InodeNumber new_parent, std::string_view new_name, RenameMode mode,
                          const Caller& caller) {
  TRY(check_name(name));
  TRY(check_name(new_name));
  const Renaming::Names names{parent, name, new_parent, new_name};
  const unsigned whiteout = mode == RenameMode::whiteout ? NewInode::kItemChanges : 0;
  return context.transactions.write(Budget{7 + whiteout}, [&](Txn& txn) {
    return Renaming(context, txn, names, mode, caller).run();
  });
}

}  // namespace moltfs::fs
