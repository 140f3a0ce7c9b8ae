// SPDX-License-Identifier: MIT
// Transactions: creating two empty trees, and opening the trees of a volume.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/load.h"
#include "fs/tree/state.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {
namespace {

/// Inner nodes read in one batch at mount.
constexpr size_t kWalkBatch = 64;
constexpr size_t kUsagePage = 512;

Result<void> mark(alloc::Space& space, TreeId tree, const NodePointer& pointer) {
  if (space.mark_node(pointer.address, pointer.birth)) return ok();
  return Error(Errc::bad_node,
               fmt::format("two pointers to node {} of the {}, or it is outside every metadata "
                           "chunk",
                           pointer.address.value, name_of(tree)));
}

}  // namespace

Result<std::unique_ptr<Transactions>> Transactions::create(alloc::Volume& volume,
                                                           const Options& options,
                                                           const FsCounters& counters) {
  std::unique_ptr<Transactions> made(new Transactions(volume, options));
  TreeState& state = *made->state_;
  TRY(auto reservation,
      volume.space().reserve_nodes(kTreeCount, alloc::ReserveClass::normal, state.running));
  state.counters = counters;
  for (TreeId tree : {TreeId::fs, TreeId::extent}) {
    state.root(tree) = {state.pointer_to(state.make_node(reservation, tree, 0)), 0};
  }
  std::lock_guard lock(made->mutex_);
  made->publish();
  return made;
}

Result<std::unique_ptr<Transactions>> Transactions::open(alloc::Volume& volume,
                                                         const Options& options) {
  std::unique_ptr<Transactions> opened(new Transactions(volume, options));
  const alloc::Superblock superblock = volume.superblock();
  TRY(auto payload, decode_fs_payload(superblock.fs_payload));
  opened->state_->roots = payload.roots;
  opened->state_->counters = payload.counters;
  for (TreeId tree : {TreeId::fs, TreeId::extent}) {
    TRY(opened->walk(tree, superblock.generation));
  }
  TRY(opened->replay());
  TRY(opened->load_usage());
  std::lock_guard lock(opened->mutex_);
  opened->publish();
  return opened;
}

/// Walks the inner nodes level by level; keeps them in memory as far as the cache allows.
Result<void> Transactions::walk(TreeId tree, Generation newest) {
  const TreeRoot root = state_->root(tree);
  if (root.node.birth > newest) {
    return Error(Errc::bad_node, fmt::format("the root of the {} was born in generation {}, the "
                                             "superblock is of generation {}",
                                             name_of(tree), root.node.birth.value, newest.value));
  }
  TRY(mark(volume_.space(), tree, root.node));
  std::vector<NodeExpectation> level{{tree, root.level, root.node}};
  while (!level.empty() && level.front().level > 0) {
    std::vector<NodeExpectation> below;
    for (size_t first = 0; first < level.size(); first += kWalkBatch) {
      std::vector<NodeRequest> requests;
      for (size_t i = first; i < std::min(level.size(), first + kWalkBatch); ++i) {
        requests.push_back({level[i], {}, {}});
      }
      loader_.load(requests);
      for (NodeRequest& request : requests) {
        if (request.error) return *request.error;
        if (!request.node) return Error(Errc::bad_node);
        for (NodeExpectation& child : children_of(*request.node, request.expected)) {
          TRY(mark(volume_.space(), tree, child.pointer));
          if (child.level > 0) below.push_back(child);
        }
        state_->cache.add_clean(std::move(request.node));
      }
      requests.clear();
      state_->cache.evict();
    }
    level = std::move(below);
  }
  return ok();
}

Result<void> Transactions::load_usage() {
  Key from = usage_key(LogicalOffset(0));
  const Key last = usage_key(LogicalOffset(UINT64_MAX));
  for (;;) {
    using Page = std::vector<std::pair<uint64_t, uint64_t>>;
    TRY(auto page, read([&](Access& access) -> Result<Page> {
          Page found;
          TRY(extent_tree_.scan(access, from, last, [&](const Item& item) -> Result<bool> {
            const auto value = load_exactly<ChunkUsageOnDisk>(item.value);
            if (!value) return Error(Errc::bad_item, "a chunk usage record has a wrong size");
            found.emplace_back(item.key.offset, value->used_bytes.value());
            return found.size() < kUsagePage;
          }));
          return found;
        }));
    for (const auto& [chunk, used] : page) {
      volume_.space().set_data_used(LogicalOffset(chunk), used);
    }
    if (page.size() < kUsagePage || page.back().first == UINT64_MAX) return ok();
    from = usage_key(LogicalOffset(page.back().first + 1));
  }
}

}  // namespace moltfs::fs
