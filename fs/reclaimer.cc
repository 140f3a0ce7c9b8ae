// SPDX-License-Identifier: MIT
// The task that removes orphans.
#include "fs/reclaimer.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "alloc/base/contain.h"
#include "alloc/base/log.h"
#include "fs/content/content.h"
#include "fs/inode/orphan_mark.h"
#include "fs/inode/xattrs.h"

namespace moltfs::fs {
namespace {

constexpr size_t kScanBatch = 1024;  // orphan marks read in one critical section
// Items of an orphan without extents and attributes: inode, two parts of a symlink, mark.
constexpr size_t kItemsOfSmall = 4;
constexpr size_t kRemovalBatch = 16;  // small orphans removed in one critical section
// The task waits this long, or until the queue has this many orphans. So a program that unlinks
// many files does not wake the task, and compete with it for the lock, for each file.
constexpr Nanoseconds kGatherTime = std::chrono::milliseconds(10);
constexpr size_t kGatherCount = 512;

struct Mark {
  InodeNumber ino;
  OrphanKind kind;
};

/// Marks from `first` on, up to kScanBatch.
Result<std::vector<Mark>> marks_from(FilesystemContext& context, InodeNumber first) {
  return context.transactions.read([&](Access& access) -> Result<std::vector<Mark>> {
    std::vector<Mark> marks;
    const Key last = orphan_key(InodeNumber{~uint64_t{0}});
    TRY(context.fs_tree().scan(access, orphan_key(first), last,
                               [&](const Item& item) -> Result<bool> {
                                 const auto kind = decode_orphan_mark(item.key, item.value);
                                 if (kind) {
                                   marks.push_back({InodeNumber{item.key.offset}, kind.value()});
                                 } else {
                                   log_error("orphans: {}", kind.error().message());
                                 }
                                 return marks.size() < kScanBatch;
                               }));
    return marks;
  });
}

/// What one critical section removes: orphans without extents and extended attributes. The others
/// are added to `large`.
struct Removal {
  std::vector<Key> keys;
  uint64_t inodes = 0;
  std::vector<InodeNumber> large;

  Result<void> add(const FilesystemContext& context, Txn& txn, InodeNumber ino);
};

Result<void> Removal::add(const FilesystemContext& context, Txn& txn, InodeNumber ino) {
  const Tree& tree = context.fs_tree();
  if (std::find(keys.begin(), keys.end(), inode_key(ino)) != keys.end()) return ok();
  TRY(auto inode, load_inode(txn, tree, ino));
  if (inode.links != 0) {
    return Error(Errc::bad_item, fmt::format("inode {} is marked for removal but has {} links",
                                             ino.value, inode.links));
  }
  std::vector<Key> items;
  bool is_large = false;
  const Key last = extent_key(ino, ~uint64_t{0});
  TRY(tree.scan(txn, inode_key(ino), last, [&](const Item& item) {
    is_large = item.key.type == static_cast<uint8_t>(ItemType::xattr) ||
               item.key.type == static_cast<uint8_t>(ItemType::extent) ||
               items.size() == kItemsOfSmall - 1;
    if (!is_large) items.push_back(item.key);
    return !is_large;
  }));
  if (is_large) {
    large.push_back(ino);
    return ok();
  }
  TRY(auto mark, tree.find(txn, orphan_key(ino)));
  if (mark) items.push_back(orphan_key(ino));
  keys.insert(keys.end(), items.begin(), items.end());
  ++inodes;
  return ok();
}

/// Removes the small orphans of `inos`; returns the others.
Result<std::vector<InodeNumber>> remove_small(FilesystemContext& context,
                                              std::span<const InodeNumber> inos) {
  const Budget budget{static_cast<unsigned>(kItemsOfSmall * inos.size()),
                      alloc::ReserveClass::reclaiming};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<std::vector<InodeNumber>> {
    const Tree& tree = context.fs_tree();
    Removal removal;
    for (const InodeNumber ino : inos) {
      TRY(removal.add(context, txn, ino));
    }
    for (const Key& key : removal.keys) {
      TRY(tree.prepare(txn, key, Tree::Intent::erase));
    }
    for (const Key& key : removal.keys) tree.erase(txn, key);
    if (removal.inodes > 0) {
      FsCounters& counters = txn.counters_for_change();
      counters.inode_count -= std::min(counters.inode_count, removal.inodes);
    }
    return std::move(removal.large);
  });
}

}  // namespace

Reclaimer::Reclaimer(FilesystemContext& context)
    : context_(context),
      work_(context.runtime.make_wait_queue()),
      idle_(context.runtime.make_wait_queue()) {}

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
  task_ = context_.runtime.spawn("reclaim", [this] { run(); });
}

Result<void> Reclaimer::find_orphans() {
  for (InodeNumber next{0};;) {
    TRY(auto marks, marks_from(context_, next));
    for (const Mark& mark : marks) {
      if (mark.kind == OrphanKind::remove) {
        add(mark.ino);
        continue;
      }
      auto finished = finish_truncate(context_, mark.ino);
      if (!finished) {
        log_error("truncate of inode {} was interrupted and cannot be finished: {}", mark.ino.value,
                  finished.error().message());
      }
    }
    if (marks.size() < kScanBatch) return ok();
    next = marks.back().ino + 1;
  }
}

void Reclaimer::add(InodeNumber ino) {
  std::lock_guard lock(mutex_);
  queue_.push_back(ino);
  if (queue_.size() == 1 || queue_.size() == kGatherCount) work_->notify_one();
}

bool Reclaimer::busy() const {
  std::lock_guard lock(mutex_);
  return started_ && (removing_ || !queue_.empty());
}

void Reclaimer::wait_idle() {
  std::unique_lock lock(mutex_);
  ++hurrying_;
  work_->notify_one();
  idle_->wait(lock, [this] { return !started_ || (!removing_ && queue_.empty()); });
  --hurrying_;
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
    const bool gathers = !stopping_ && hurrying_ == 0 && queue_.size() < kGatherCount;
    if (gathers) work_->wait_for(lock, kGatherTime);
    if (queue_.empty()) {
      if (stopping_) break;
      continue;
    }
    remove_queued(lock);
    idle_->notify_all();
  }
  started_ = false;
  idle_->notify_all();
}

/// REQUIRES: `lock` holds mutex_ (released meanwhile).
void Reclaimer::remove_queued(std::unique_lock<std::mutex>& lock) {
  removing_ = true;
  while (!queue_.empty()) {
    const auto end =
        queue_.begin() + static_cast<ptrdiff_t>(std::min(queue_.size(), kRemovalBatch));
    const std::vector<InodeNumber> batch(queue_.begin(), end);
    queue_.erase(queue_.begin(), end);
    lock.unlock();
    const auto removed = contain([&] { remove_batch(batch); });
    if (!removed) log_warning("orphans stay until the next mount: {}", removed.error().message());
    lock.lock();
  }
  removing_ = false;
}

void Reclaimer::remove_batch(const std::vector<InodeNumber>& batch) {
  auto large = remove_small(context_, batch);
  // After an error (of one orphan, or because the batch needs too much space) the orphans are
  // removed one by one.
  for (const InodeNumber ino : large ? large.value() : batch) {
    auto removed = remove(ino);
    if (!removed && removed.error().code != Errc::read_only) {
      log_error("inode {} cannot be removed now: {}", ino.value, removed.error().message());
    }
  }
}

Result<void> Reclaimer::remove(InodeNumber ino) {
  TRY(auto inode, context_.transactions.read(
                      [&](Access& access) { return load_inode(access, context_.fs_tree(), ino); }));
  if (inode.links != 0) {
    return Error(Errc::bad_item,
                 fmt::format("it is marked for removal but has {} links", inode.links));
  }
  if (inode.is_regular()) {
    TRY(drop_content(context_, ino));
  }
  TRY(drop_xattrs(context_, ino));
  TRY(auto large, remove_small(context_, {&ino, 1}));
  return large.empty() ? ok() : Error(Errc::bad_item, "it has content that it should not have");
}

}  // namespace moltfs::fs
