// SPDX-License-Identifier: MIT
// Marks of orphans, and the task that removes them.
#include "fs/orphans.h"

#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "alloc/base/log.h"
#include "fs/content.h"
#include "fs/directory.h"
#include "fs/xattr.h"

namespace moltfs::fs {
namespace {

constexpr size_t kScanBatch = 1024;  // orphan items looked at in one critical section

struct Mark {
  InodeNumber ino;
  OrphanKind kind;
};

/// Marks from `first` on, up to kScanBatch.
Result<std::vector<Mark>> marks_from(Core& core, InodeNumber first) {
  return core.transactions.read([&](Access& access) -> Result<std::vector<Mark>> {
    std::vector<Mark> marks;
    std::optional<Error> fault;
    TRY(core.fs_tree().scan(access, orphan_key(first), orphan_key(InodeNumber{~uint64_t{0}}),
                            [&](const Item& item) {
                              auto kind = decode_orphan(item.key, item.value);
                              if (!kind) {
                                fault = kind.error();
                                return false;
                              }
                              marks.push_back({InodeNumber{item.key.offset}, kind.value()});
                              return marks.size() < kScanBatch;
                            }));
    if (fault) return *fault;
    return marks;
  });
}

/// A symlink's target and the inode itself with its mark.
Result<void> erase_inode(Core& core, InodeNumber ino) {
  const Budget budget{4, alloc::Urgency::reclaiming};
  return core.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    const Tree& tree = core.fs_tree();
    std::vector<Key> keys{inode_key(ino)};
    for (const Key& key : {orphan_key(ino), symlink_key(ino, 0), symlink_key(ino, 1)}) {
      TRY(auto item, tree.find(txn, key));
      if (item) keys.push_back(key);
    }
    TRY(auto inode, prepare_inode(txn, tree, ino, true));
    if (inode.links != 0) {
      return Error(Errc::bad_item, fmt::format("inode {} is marked for removal but has {} links",
                                               ino.value, inode.links));
    }
    for (const Key& key : keys) {
      TRY(tree.prepare(txn, key, Tree::Intent::erase));
    }
    for (const Key& key : keys) tree.erase(txn, key);
    FsCounters& counters = txn.counters_for_change();
    if (counters.inode_count > 0) --counters.inode_count;
    return ok();
  });
}

}  // namespace

Result<void> prepare_orphan(const Core& core, Txn& txn, InodeNumber ino) {
  return core.fs_tree().prepare(txn, orphan_key(ino), Tree::Intent::put);
}

void put_orphan(const Core& core, Txn& txn, InodeNumber ino, OrphanKind kind) {
  OrphanOnDisk disk;
  disk.what = static_cast<uint8_t>(kind);
  core.fs_tree().put(txn, orphan_key(ino), std::as_bytes(std::span(&disk, 1)));
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

void forget_inode(Core& core, InodeNumber ino, uint64_t count) {
  if (core.inodes.give_back(ino, count)) core.reclaim(ino);
}

Reclaimer::Reclaimer(Core& core)
    : core_(core), work_(core.runtime.make_wait_queue()), idle_(core.runtime.make_wait_queue()) {}

Reclaimer::~Reclaimer() {
  abandon();
}

void Reclaimer::start() {
  auto found = find_orphans();
  if (!found) log_error("orphans: {}", found.error().message());
  {
    std::lock_guard lock(mutex_);
    started_ = true;
  }
  task_ = core_.runtime.spawn("reclaim", [this] { run(); });
}

Result<void> Reclaimer::find_orphans() {
  for (InodeNumber next{0};;) {
    TRY(auto marks, marks_from(core_, next));
    for (const Mark& mark : marks) {
      if (mark.kind == OrphanKind::remove) {
        add(mark.ino);
        continue;
      }
      auto finished = finish_truncate(core_, mark.ino);
      if (!finished) {
        log_error("truncate of inode {} was interrupted and cannot be finished: {}",
                  mark.ino.value, finished.error().message());
      }
    }
    if (marks.size() < kScanBatch) return ok();
    next = marks.back().ino + 1;
  }
}

void Reclaimer::add(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  queue_.push_back(ino);
  work_->notify_one();
}

bool Reclaimer::busy() const {
  std::lock_guard lock(mutex_);
  return started_ && (removing_ || !queue_.empty());
}

void Reclaimer::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_->wait(lock, [this] { return !started_ || (!removing_ && queue_.empty()); });
}

void Reclaimer::stop() {
  finish(false);
}

void Reclaimer::abandon() {
  finish(true);
}

void Reclaimer::finish(bool drop_queue) {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (drop_queue) queue_.clear();
    work_->notify_all();
  }
  if (task_) task_->join();
  task_.reset();
}

void Reclaimer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_->wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) break;
    const InodeNumber ino = queue_.front();
    queue_.pop_front();
    removing_ = true;
    lock.unlock();
    auto removed = remove(ino);
    if (!removed && removed.error().code != Errc::read_only) {
      log_error("inode {} cannot be removed now: {}", ino.value, removed.error().message());
    }
    lock.lock();
    removing_ = false;
    if (queue_.empty()) idle_->notify_all();
  }
  started_ = false;
  idle_->notify_all();
}

Result<void> Reclaimer::remove(InodeNumber ino) {
  TRY(auto inode, core_.transactions.read(
                      [&](Access& access) { return load_inode(access, core_.fs_tree(), ino); }));
  if (inode.links != 0) {
    return Error(Errc::bad_item,
                 fmt::format("it is marked for removal but has {} links", inode.links));
  }
  if (inode.is_regular()) {
    TRY(drop_content(core_, ino));
  }
  TRY(drop_xattrs(core_, ino));
  return erase_inode(core_, ino);
}

}  // namespace moltfs::fs
