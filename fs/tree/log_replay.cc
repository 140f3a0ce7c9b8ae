// SPDX-License-Identifier: MIT
// At mount: bringing back what the fsync log holds, in memory; see alloc/disk/log_batch.h.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/log.h"
#include "fs/tree/transaction_impl.h"

namespace moltfs::fs {
namespace {

/// Items changed in one critical section.
constexpr size_t kSection = 8;

}  // namespace

/// What is wrong with the log ends it there. Errors are those of the trees and of their space.
Result<void> Transactions::Impl::replay() {
  const auto& batches = volume.found_log().batches;
  std::vector<Redo> redos;
  for (const alloc::LogBatch& batch : batches) {
    auto redo = decode_redo(batch.payload);
    if (!redo || redo.value().counters.hash_seed != state.counters.hash_seed) {
      log_warning("the fsync log ends at batch {}, which makes no sense", redos.size());
      break;
    }
    redos.push_back(std::move(redo).value());
  }
  const bool unsure = !redos.empty() && redos.size() == batches.size() &&
                      !batches.back().data_flushed && options.data_matches;
  if (unsure && !options.data_matches(redos.back())) {
    redos.pop_back();  // the power went before it was flushed
  }
  for (const Redo& redo : redos) {
    TRY(apply(redo));
  }
  if (volume.found_log().begun) return ok();  // until a commit there is no chain to go on with
  log = begin_log(durable, volume.superblock().next_logical);
  listen();
  return ok();
}

Result<void> Transactions::Impl::apply(const Redo& redo) {
  const std::span<const Redo::Item> items(redo.items);
  for (size_t first = 0; first < items.size(); first += kSection) {
    const auto section = items.subspan(first, std::min(kSection, items.size() - first));
    Txn txn(owner);
    const uint64_t nodes = state.nodes_for(static_cast<unsigned>(section.size()));
    TRY(txn.reservation_,
        volume.space().reserve_nodes(nodes, alloc::ReserveClass::reclaiming, state.running));
    for (;;) {
      {
        std::lock_guard lock(owner.mutex_);
        auto applied = apply_section(txn, section);
        if (applied) break;
        if (applied.error().code != Errc::node_missing) return applied;
      }
      TRY(owner.load_missing(txn));
    }
    std::lock_guard lock(owner.mutex_);
    unpin(txn);
  }
  std::lock_guard lock(owner.mutex_);
  state.counters = redo.counters;
  ++state.changes;
  return ok();
}

/// Changes nothing if it fails. REQUIRES: the lock.
Result<void> Transactions::Impl::apply_section(Txn& txn, std::span<const Redo::Item> items) {
  const auto tree_of = [&](const Redo::Item& item) -> const Tree& {
    return item.id.tree == TreeId::fs ? owner.fs_tree_ : owner.extent_tree_;
  };
  for (const Redo::Item& item : items) {
    const auto intent = item.value ? Tree::Intent::put : Tree::Intent::erase;
    TRY(tree_of(item).prepare(txn, item.id.key, intent));
  }
  for (const Redo::Item& item : items) {
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
