// SPDX-License-Identifier: MIT
// The B+trees: searching.
#include "fs/tree/tree.h"

#include <algorithm>

#include "fs/tree/access.h"
#include "fs/tree/cursor.h"

namespace moltfs::fs {
namespace {
constexpr size_t kGatheredNodes = 64;
}

Result<std::optional<ConstBytes>> Tree::find(Access& access, const Key& key) const {
  Cursor cursor(access.state_, id_, access.missing_);
  TRY(cursor.descend(key));
  const Node& leaf = cursor.leaf();
  const unsigned slot = leaf.lower_bound(key);
  if (slot == leaf.count() || leaf.key(slot) != key) return std::nullopt;
  return std::optional(leaf.value(slot));
}

Result<void> Tree::gather(Access& access, std::span<const Key> keys) const {
  std::vector<NodeExpectation> missing, all;
  for (const Key& key : keys) {
    Cursor cursor(access.state_, id_, missing);
    auto found = cursor.descend(key);
    if (found) continue;
    if (found.error().code != Errc::node_missing) return found;
    const bool is_new = std::none_of(all.begin(), all.end(), [&](const NodeExpectation& other) {
      return other.pointer.address == missing.front().pointer.address;
    });
    if (is_new) all.push_back(missing.front());
    if (all.size() == kGatheredNodes) break;
  }
  if (all.empty()) return ok();
  access.missing_ = std::move(all);
  return Errc::node_missing;
}

Result<std::optional<Item>> Tree::at_or_after(Access& access, const Key& key) const {
  Cursor cursor(access.state_, id_, access.missing_);
  TRY(cursor.descend(key));
  unsigned slot = cursor.leaf().lower_bound(key);
  while (slot == cursor.leaf().count()) {
    TRY(auto moved, cursor.to_next_leaf());
    if (!moved) return std::nullopt;
    slot = 0;
  }
  return std::optional(Item{cursor.leaf().key(slot), cursor.leaf().value(slot)});
}

Result<std::optional<Item>> Tree::at_or_before(Access& access, const Key& key) const {
  Cursor cursor(access.state_, id_, access.missing_);
  TRY(cursor.descend(key));
  unsigned after = cursor.leaf().upper_bound(key);
  while (after == 0) {
    TRY(auto moved, cursor.to_previous_leaf());
    if (!moved) return std::nullopt;
    after = cursor.leaf().count();
  }
  return std::optional(Item{cursor.leaf().key(after - 1), cursor.leaf().value(after - 1)});
}

Result<void> Tree::scan(Access& access, const Key& first, const Key& last,
                        const std::function<Result<bool>(const Item&)>& visit) const {
  if (first > last) return ok();
  Cursor cursor(access.state_, id_, access.missing_);
  TRY(cursor.descend(first));
  unsigned slot = cursor.leaf().lower_bound(first);
  for (;;) {
    const Node& leaf = cursor.leaf();
    for (; slot < leaf.count(); ++slot) {
      const Key key = leaf.key(slot);
      if (key > last) return ok();
      TRY(const bool more, visit({key, leaf.value(slot)}));
      if (!more) return ok();
    }
    TRY(auto moved, cursor.to_next_leaf(&last));
    if (!moved) return ok();
    slot = 0;
  }
}

}  // namespace moltfs::fs
