// SPDX-License-Identifier: MIT
// The commit: closes a transaction, writes its nodes, makes it durable.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "alloc/base/assert.h"
#include "alloc/base/load.h"
#include "alloc/base/log.h"
#include "fs/tree/state.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {
namespace {

/// Adjacent nodes are written in one piece of up to this size, pieces in batches.
constexpr uint64_t kMaxPieceBytes = 1 << 20;
constexpr uint64_t kMaxBatchBytes = 8 << 20;
/// Usage records written in one critical section.
constexpr size_t kUsageBatch = 16;

}  // namespace

struct Transactions::Closed {
  alloc::Space::Sealed sealed;
  std::vector<std::byte> payload;
  TreeState::ClosedNodes nodes;
};

namespace {

/// Gathers adjacent nodes into pieces and writes the pieces in batches.
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

Result<void> write_nodes(alloc::Volume& volume, const TreeState::ClosedNodes& nodes) {
  if (nodes.empty()) return ok();
  NodeWriter writer(volume);
  for (const auto& [address, node] : nodes) {
    TRY(writer.add(*node));
  }
  return writer.finish();
}

}  // namespace

Result<Generation> Transactions::commit(bool always) {
  std::unique_lock lock(mutex_);
  if (fatal_) return fatal_error();
  if (options_.read_only) {
    if (always) return Error(Errc::read_only);
    return durable_;
  }
  // Changes made before the call are in the running transaction or in the one being committed.
  const bool open_one = always || state_->changed();
  const Generation wanted = open_one ? state_->running : state_->running - 1;
  const uint64_t attempts_before = attempts_;
  while (durable_ < wanted) {
    if (fatal_) return fatal_error();
    if (committing_) {
      commit_ended_->wait(lock);
      // One that was begun after the call speaks for this one, too.
      if (!committing_ && blocked_ && attempts_ != attempts_before)
        return Error(Errc::device_full, *obstacle_);
      continue;
    }
    committing_ = true;
    ++attempts_;
    lock.unlock();
    auto done = run_commit();
    lock.lock();
    committing_ = false;
    commit_ended_->notify_all();
    if (!done) return done.error();
  }
  return wanted;
}

Result<Generation> Transactions::commit_and_free(bool always) {
  TRY(const Generation done, commit(always));
  std::unique_lock lock(mutex_);
  while (freeing_) commit_ended_->wait(lock);
  return done;
}

Result<std::shared_ptr<Transactions::Closed>> Transactions::closed_transaction() {
  {
    std::lock_guard lock(mutex_);
    if (blocked_) return std::move(blocked_);
  }
  TRY(auto closed, close());
  return std::make_shared<Closed>(std::move(closed));
}

Error Transactions::block(std::shared_ptr<Closed> closed, const Error& error) {
  std::lock_guard lock(mutex_);
  const std::string text = fmt::format("the commit of generation {} waits for room: {}",
                                       closed->sealed.generation.value, error.message());
  if (!obstacle_) log_error("{}", text);
  blocked_ = std::move(closed);
  obstacle_ = text;
  publish();
  return Error(Errc::device_full, text);
}

/// Running out of memory is as fatal as an error of a device: the trees may be half closed.
Result<void> Transactions::run_commit() try {
  auto taken = closed_transaction();
  if (!taken) {
    if (taken.error().code == Errc::no_space) return taken.error();
    return fail(fmt::format("the commit of generation {}", running().value), taken.error());
  }
  std::shared_ptr<Closed> closed = std::move(taken).value();
  const TreeState::ClosedNodes& nodes = closed->nodes;
  const Generation generation = closed->sealed.generation;
  auto written = write_nodes(volume_, nodes);
  if (written) written = volume_.finish_commit(closed->sealed, closed->payload);
  if (!written) {
    if (written.error() == Errc::device_full) return block(std::move(closed), written.error());
    return fail(fmt::format("the commit of generation {}", generation.value), written.error());
  }

  {
    std::lock_guard lock(mutex_);
    durable_ = generation;
    secured_ = std::max(secured_, state_->changes_closed);
    log_ = std::move(next_log_);
    listen();
    closed_nodes_ = 0;
    for (const auto& [address, node] : nodes) state_->cache.mark_clean(*node);
    closed->nodes.clear();
    state_->cache.evict();
    if (obstacle_) log_info("the commit of generation {} has found room", generation.value);
    obstacle_.reset();
    publish();
    freeing_ = true;
    commit_ended_->notify_all();  // tasks that only need it durable do not wait for the discards
  }
  volume_.free_removed(closed->sealed);
  std::lock_guard lock(mutex_);
  freeing_ = false;
  return ok();
} catch (const std::bad_alloc&) {
  {
    std::lock_guard lock(mutex_);
    freeing_ = false;
  }
  return fail("a commit", Error(Errc::out_of_memory));
}

// ---- Closing

Result<Transactions::Closed> Transactions::close() {
  Txn txn(*state_);
  for (;;) {
    size_t left = 0;
    bool missing = false;
    {
      std::lock_guard lock(mutex_);
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
      TRY(load_missing(txn));
      continue;
    }
    TRY(reserve_for_usage(txn, std::min(left, kUsageBatch)));
  }
}

/// Reserves nodes for `records` usage records; for fewer if there are not enough nodes.
Result<void> Transactions::reserve_for_usage(Txn& txn, size_t records) {
  for (;; records /= 2) {
    uint64_t count = 0;
    {
      std::lock_guard lock(mutex_);
      txn.reservation_ = {};
      count = state_->nodes_for(static_cast<unsigned>(records));
    }
    auto reserved =
        volume_.space().reserve_nodes(count, alloc::ReserveClass::committing, running());
    if (!reserved && reserved.error() == Errc::no_space && records > 1) continue;
    TRY(txn.reservation_, std::move(reserved));
    return ok();
  }
}

/// Brings as many usage records up to date as nodes are reserved for; returns how many remain.
/// Changes nothing if it fails. REQUIRES: the lock.
Result<size_t> Transactions::write_usage(Txn& txn) {
  const Tree& tree = extent_tree_;
  std::vector<alloc::UsageChange> stale, recorded;
  for (const auto& change : volume_.space().usage_changes()) {
    ChunkUsageOnDisk wanted{};
    wanted.used_bytes = change.used_bytes;
    TRY(auto found, tree.find(txn, usage_key(change.chunk)));
    const bool right =
        found ? change.used_bytes != 0 && std::ranges::equal(*found, object_bytes(wanted))
              : change.used_bytes == 0;
    (right ? recorded : stale).push_back(change);
  }
  size_t count = std::min(stale.size(), kUsageBatch);
  while (count > 0 && state_->nodes_for(static_cast<unsigned>(count)) > txn.reservation_.left()) {
    --count;
  }
  for (size_t i = 0; i < count; ++i) {
    const bool erases = stale[i].used_bytes == 0;
    TRY(tree.prepare(txn, usage_key(stale[i].chunk),
                     erases ? Tree::Intent::erase : Tree::Intent::put));
  }
  for (size_t i = 0; i < count; ++i) {
    if (stale[i].used_bytes == 0) {
      tree.erase(txn, usage_key(stale[i].chunk));
    } else {
      ChunkUsageOnDisk value{};
      value.used_bytes = stale[i].used_bytes;
      tree.put(txn, usage_key(stale[i].chunk), object_bytes(value));
    }
  }
  // The following sections must compare with what these records say now: chunks may fill and empty
  // again before the last section.
  recorded.insert(recorded.end(), stale.begin(), stale.begin() + static_cast<ptrdiff_t>(count));
  volume_.space().usage_is_recorded(recorded);
  return stale.size() - count;
}

/// REQUIRES: the lock; usage records are up to date.
Transactions::Closed Transactions::seal() {
  Closed closed;
  state_->seal_nodes();
  closed.sealed = volume_.seal(state_->running);
  closed.payload = encode(FsPayload{state_->roots, state_->counters});
  closed.nodes = state_->open_next();
  closed_nodes_ = closed.nodes.size();
  next_log_ = begin_log(closed.sealed.generation, closed.sealed.next_logical);
  if (next_log_) next_log_->usable = !closed.sealed.swaps;
  listen();
  publish();
  return closed;
}

}  // namespace moltfs::fs
