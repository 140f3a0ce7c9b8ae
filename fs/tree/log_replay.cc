// SPDX-License-Identifier: MIT
// Replays the fsync log into the trees in memory, at mount; see alloc/disk/log_batch.h.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/log.h"
#include "fs/tree/state.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {
namespace {

/// Items changed in one critical section.
constexpr size_t kSection = 8;

}  // namespace

/// A fault in the log ends the log there and is no error. Errors: those of the trees and of Space.
Result<void> Transactions::replay() {
  const auto& batches = volume_.found_log().batches;
  std::vector<LogContent> contents;
  for (const alloc::LogBatch& batch : batches) {
    auto content = decode_log_content(batch.payload);
    if (!content || content.value().counters.hash_seed != state_->counters.hash_seed) {
      log_warning("the fsync log ends at batch {}, which is not valid", contents.size());
      break;
    }
    contents.push_back(std::move(content).value());
  }
  const bool unsure = !contents.empty() && contents.size() == batches.size() &&
                      !batches.back().data_flushed && options_.data_matches;
  if (unsure && !options_.data_matches(contents.back())) {
    contents.pop_back();  // the power failed before its data was flushed
  }
  for (const LogContent& content : contents) {
    TRY(apply(content));
  }
  if (volume_.found_log().begun) return ok();  // no new chain until the commit that follows
  log_ = begin_log(durable_, volume_.superblock().next_logical);
  listen();
  return ok();
}

Result<void> Transactions::apply(const LogContent& content) {
  const std::span<const LogContent::Item> items(content.items);
  for (size_t first = 0; first < items.size(); first += kSection) {
    const auto section = items.subspan(first, std::min(kSection, items.size() - first));
    Txn txn(*state_);
    const uint64_t nodes = state_->nodes_for(static_cast<unsigned>(section.size()));
    TRY(txn.reservation_,
        volume_.space().reserve_nodes(nodes, alloc::ReserveClass::reclaiming, state_->running));
    for (;;) {
      {
        std::lock_guard lock(mutex_);
        auto applied = apply_section(txn, section);
        if (applied) break;
        if (applied.error().code != Errc::node_missing) return applied;
      }
      TRY(load_missing(txn));
    }
    std::lock_guard lock(mutex_);
    unpin(txn);
  }
  std::lock_guard lock(mutex_);
  state_->counters = content.counters;
  ++state_->changes;
  return ok();
}

/// Changes nothing if it fails. REQUIRES: the lock.
Result<void> Transactions::apply_section(Txn& txn, std::span<const LogContent::Item> items) {
  const auto tree_of = [&](const LogContent::Item& item) -> const Tree& {
    return item.id.tree == TreeId::fs ? fs_tree_ : extent_tree_;
  };
  for (const LogContent::Item& item : items) {
    const auto intent = item.value ? Tree::Intent::put : Tree::Intent::erase;
    TRY(tree_of(item).prepare(txn, item.id.key, intent));
  }
  for (const LogContent::Item& item : items) {
    const Tree& tree = tree_of(item);
    if (item.value) {
      tree.put(txn, item.id.key, *item.value);
    } else if (auto there = tree.find(txn, item.id.key); there && there.value()) {
      tree.erase(txn, item.id.key);
    }
  }
  return ok();
}

}  // namespace moltfs::fs
