// SPDX-License-Identifier: MIT
// The commit: closing a transaction, writing its nodes, making it durable.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "fs/tree/transaction_impl.h"

namespace moltfs::fs {
namespace {

/// Nodes that lie side by side are written in one piece of up to this size, pieces in batches.
constexpr uint64_t kMaxPieceBytes = 1 << 20;
constexpr uint64_t kMaxBatchBytes = 8 << 20;
/// Usage records written in one critical section.
constexpr size_t kUsageBatch = 16;

}  // namespace

Result<Generation> Transactions::commit(bool always) {
  Impl& m = *impl_;
  std::unique_lock lock(mutex_);
  if (m.fatal) return m.fatal_error();
  if (m.options.read_only) {
    if (always) return Error(Errc::read_only);
    return m.durable;
  }
  // What was changed before the call is in the running transaction or in one that is being written.
  const bool open_one = always || m.state.changed();
  const Generation wanted = open_one ? m.state.running : m.state.running - 1;
  while (m.durable < wanted) {
    if (m.fatal) return m.fatal_error();
    if (m.committing) {
      m.commit_ended->wait(lock);
      continue;
    }
    m.committing = true;
    lock.unlock();
    auto done = m.run_commit();
    lock.lock();
    m.committing = false;
    m.commit_ended->notify_all();
    if (!done) return done.error();
  }
  return wanted;
}

Result<void> Transactions::Impl::run_commit() {
  auto closed = close();
  if (!closed) {
    if (closed.error().code == Errc::no_space) return closed.error();
    return fail(fmt::format("the commit of generation {}", owner.running().value), closed.error());
  }
  const TreeState::ClosedNodes& nodes = closed.value().nodes;
  const Generation generation = closed.value().sealed.generation;
  auto written = write_nodes(nodes);
  if (written) {
    written = volume.finish_commit(closed.value().sealed, std::move(closed.value().payload));
  }
  if (!written) {
    return fail(fmt::format("the commit of generation {}", generation.value), written.error());
  }

  std::lock_guard lock(owner.mutex_);
  durable = generation;
  secured = std::max(secured, state.changes_closed);
  log = std::move(next_log);
  listen();
  closed_nodes = 0;
  for (const auto& [address, node] : nodes) state.cache.mark_clean(*node);
  closed.value().nodes.clear();
  state.cache.evict();
  return ok();
}

/// From now on the filesystem is read-only. Nodes that were not written stay in memory for readers.
Error Transactions::Impl::fail(const std::string& what, const Error& error) {
  std::unique_lock lock(owner.mutex_);
  if (!fatal) {
    fatal = fmt::format("{} failed: {}; the filesystem is read-only now", what, error.message());
    log_error("{}", *fatal);
  }
  return fatal_error();
}

// ---- Closing

Result<Transactions::Impl::Closed> Transactions::Impl::close() {
  Txn txn(owner);
  for (;;) {
    size_t left = 0;
    bool missing = false;
    {
      std::lock_guard lock(owner.mutex_);
      auto written = write_usage(txn);
      if (written) {
        left = written.value();
        if (left == 0) {
          txn.reservation_ = {};
          return seal();
        }
      } else if (written.error().code == Errc::node_missing) {
        missing = true;
      } else {
        return written.error();
      }
    }
    if (missing) {
      TRY(owner.load_missing(txn));
      continue;
    }
    TRY(reserve_for_usage(txn, std::min(left, kUsageBatch)));
  }
}

/// Nodes for so many usage records or, where there are not so many nodes, for fewer.
Result<void> Transactions::Impl::reserve_for_usage(Txn& txn, size_t records) {
  for (;; records /= 2) {
    uint64_t count = 0;
    Generation running;
    {
      std::lock_guard lock(owner.mutex_);
      txn.reservation_ = {};
      count = state.nodes_for(static_cast<unsigned>(records));
      running = state.running;
    }
    auto reserved = volume.space().reserve_nodes(count, alloc::ReserveClass::committing, running);
    if (!reserved && reserved.error() == Errc::no_space && records > 1) continue;
    TRY(txn.reservation_, std::move(reserved));
    return ok();
  }
}

/// Brings as many usage records up to date as nodes are reserved for; returns how many are left.
/// Changes nothing if it fails. REQUIRES: the lock.
Result<size_t> Transactions::Impl::write_usage(Txn& txn) {
  const Tree& tree = owner.extent_tree_;
  std::vector<alloc::Space::UsageChange> stale, recorded;
  for (const auto& change : volume.space().usage_changes()) {
    ChunkUsageOnDisk wanted{};
    wanted.used_bytes = change.used_bytes;
    TRY(auto found, tree.find(txn, usage_key(change.chunk)));
    const bool right = found ? change.used_bytes != 0 && found->size() == sizeof(wanted) &&
                                   std::memcmp(found->data(), &wanted, sizeof(wanted)) == 0
                             : change.used_bytes == 0;
    (right ? recorded : stale).push_back(change);
  }
  size_t count = std::min(stale.size(), kUsageBatch);
  while (count > 0 && state.nodes_for(static_cast<unsigned>(count)) > txn.reservation_.left()) {
    --count;
  }
  for (size_t i = 0; i < count; ++i) {
    const bool goes = stale[i].used_bytes == 0;
    TRY(tree.prepare(txn, usage_key(stale[i].chunk),
                     goes ? Tree::Intent::erase : Tree::Intent::put));
  }
  for (size_t i = 0; i < count; ++i) {
    if (stale[i].used_bytes == 0) {
      tree.erase(txn, usage_key(stale[i].chunk));
    } else {
      ChunkUsageOnDisk value{};
      value.used_bytes = stale[i].used_bytes;
      tree.put(txn, usage_key(stale[i].chunk), std::as_bytes(std::span(&value, 1)));
    }
  }
  // Sections that follow must see what these records say: until the last one chunks may fill and
  // empty again.
  recorded.insert(recorded.end(), stale.begin(), stale.begin() + static_cast<ptrdiff_t>(count));
  volume.space().usage_is_recorded(recorded);
  return stale.size() - count;
}

/// REQUIRES: the lock; usage records are up to date.
Transactions::Impl::Closed Transactions::Impl::seal() {
  Closed closed;
  state.seal_nodes();
  closed.sealed = volume.seal(state.running);
  closed.payload = encode(FsPayload{state.roots, state.counters});
  closed.nodes = state.open_next();
  closed_nodes = closed.nodes.size();
  next_log = begin_log(closed.sealed.generation, closed.sealed.next_logical);
  if (next_log) next_log->counts = !closed.sealed.swaps;
  listen();
  return closed;
}

// ---- Writing

namespace {

/// Gathers nodes that lie side by side into pieces and writes these in batches.
class NodeWriter {
 public:
  explicit NodeWriter(alloc::Volume& volume) : volume_(volume), guard_(volume.acquire_map()) {}

  Result<void> add(const Node& node) {
    const LogicalOffset start = run_.empty() ? node.address() : run_.front()->address();
    const uint64_t length = run_.size() * kNodeSize;
    const bool continues = start + length == node.address() && length < kMaxPieceBytes &&
                           guard_.map().chunk_of({start, length + kNodeSize}) != nullptr;
    if (!continues) {
      end_run();
      if (batch_bytes_ >= kMaxBatchBytes) {
        TRY(flush());
      }
    }
    run_.push_back(&node);
    return ok();
  }

  Result<void> finish() {
    end_run();
    return flush();
  }

 private:
  void end_run() {
    if (run_.empty()) return;
    const LogicalOffset start = run_.front()->address();
    if (run_.size() == 1) {
      writes_.push_back({start, run_.front()->bytes()});
    } else {
      AlignedBuffer piece(run_.size() * kNodeSize);
      for (size_t i = 0; i < run_.size(); ++i) {
        std::memcpy(piece.data() + i * kNodeSize, run_[i]->bytes().data(), kNodeSize);
      }
      writes_.push_back({start, piece.span()});
      pieces_.push_back(std::move(piece));
    }
    batch_bytes_ += run_.size() * kNodeSize;
    run_.clear();
  }

  Result<void> flush() {
    if (writes_.empty()) return ok();
    TRY(volume_.write(guard_, writes_));
    writes_.clear();
    pieces_.clear();
    batch_bytes_ = 0;
    return ok();
  }

  alloc::Volume& volume_;
  alloc::MapGuard guard_;
  std::vector<const Node*> run_;
  std::vector<alloc::LogicalWrite> writes_;
  std::vector<AlignedBuffer> pieces_;
  uint64_t batch_bytes_ = 0;
};

}  // namespace

Result<void> Transactions::Impl::write_nodes(const TreeState::ClosedNodes& nodes) {
  if (nodes.empty()) return ok();
  NodeWriter writer(volume);
  for (const auto& [address, node] : nodes) {
    TRY(writer.add(*node));
  }
  return writer.finish();
}

}  // namespace moltfs::fs
