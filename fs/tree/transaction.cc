// SPDX-License-Identifier: MIT
// Transactions: critical sections, room for writers, loading of missing nodes.
#include "fs/tree/transaction.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "fs/tree/state.h"

namespace moltfs::fs {
namespace {

/// How often a writer that finds no space waits for other writers to end before it gives up.
constexpr unsigned kMaxWaitsForSpace = 64;
constexpr unsigned kMaxCommitsForSpace = 2;

uint64_t dirty_limit_of(const Transactions::Options& options, uint64_t cache_bytes) {
  const uint64_t limit = options.dirty_limit_bytes != 0
                             ? options.dirty_limit_bytes
                             : std::min<uint64_t>(cache_bytes / 4, 64ull << 20);
  return std::max<uint64_t>(limit, 4 * kNodeSize);
}

}  // namespace

Transactions::Transactions(alloc::Volume& volume, const Options& options)
    : volume_(volume),
      options_(options),
      cache_bytes_(options.cache_bytes),
      dirty_limit_(dirty_limit_of(options, options.cache_bytes)),
      loader_(volume),
      commit_ended_(volume.runtime().make_wait_queue()),
      write_ended_(volume.runtime().make_wait_queue()),
      log_ended_(volume.runtime().make_wait_queue()),
      state_(std::make_unique<TreeState>(volume.space(), volume.superblock().volume,
                                         options.cache_bytes)) {
  durable_ = volume.superblock().generation;
  state_->running = volume.first_generation();
  publish();
}

Transactions::~Transactions() = default;

// ---- Critical sections

Result<void> Transactions::drive_read(const std::function<bool(Access&)>& section) {
  Access access(*state_);
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (section(access)) {
        unpin(access);
        return ok();
      }
    }
    TRY(load_missing(access));
  }
}

Result<void> Transactions::drive_write(const Budget& budget,
                                       const std::function<bool(Txn&)>& section) {
  Txn txn(*state_);
  TRY(reserve(budget, txn));
  std::unique_lock lock(mutex_);
  ++writers_;
  for (;;) {
    if (!takes_changes()) {
      end_write(txn);
      return Error(Errc::read_only);
    }
    // The trees may have grown since the nodes were reserved.
    if (txn.reservation_.left() < state_->nodes_for(budget.item_changes)) {
      end_write(txn);
      lock.unlock();
      TRY(reserve(budget, txn));
      lock.lock();
      ++writers_;
      continue;
    }
    const uint64_t nodes_before = state_->dirty.size();
    const uint64_t changes_before = state_->changes;
    bool has_run = false;
    txn.erasures_.clear();
    try {
      has_run = section(txn);
    } catch (const std::bad_alloc&) {
      const bool has_changed = state_->changes != changes_before;
      end_write(txn);
      lock.unlock();
      // A change that was interrupted must never be committed.
      if (has_changed) return fail("a change", Error(Errc::out_of_memory));
      return Error(Errc::out_of_memory);
    }
    if (has_run) {
      end_write(txn);
      unpin(txn);
      if (state_->dirty.size() == nodes_before) return ok();
      Callback press;
      if (unwritten_bytes() >= dirty_limit_) press = take_pressure_callback();
      lock.unlock();
      if (press && *press) (*press)();
      return ok();
    }
    ASSERT(state_->changes == changes_before);  // everything is prepared before any change
    lock.unlock();
    auto loaded = load_missing(txn);
    lock.lock();
    if (!loaded) {
      end_write(txn);
      return loaded;
    }
  }
}

Result<void> Transactions::load_missing(Access& access) try {
  std::vector<NodeRequest> requests;
  for (const NodeExpectation& expected : access.missing_) requests.push_back({expected, {}, {}});
  access.missing_.clear();
  ASSERT(!requests.empty());
  loader_.load(requests);

  std::lock_guard lock(mutex_);
  NodeCache& cache = state_->cache;
  cache.evict();
  for (NodeRequest& request : requests) {
    if (!request.node) continue;
    // Held before it enters the cache, so that it stays there until the operation has ended.
    access.pinned_.push_back(request.node);
    cache.add_clean(std::move(request.node));
    if (const auto* there = cache.find(request.expected.pointer)) access.pinned_.back() = *there;
  }
  const NodeRequest& needed = requests.front();
  if (needed.error) return *needed.error;
  const NodePointer& pointer = needed.expected.pointer;
  if (cache.find(pointer) != nullptr) {
    access.vanished_.reset();
  } else if (access.vanished_ == pointer) {
    return Error(Errc::bad_node,
                 "node " + std::to_string(pointer.address.value) + " is in use but not allocated");
  } else {
    access.vanished_ = pointer;  // it was replaced meanwhile: the operation will find the new one
  }
  return ok();
} catch (const std::bad_alloc&) {
  return Error(Errc::out_of_memory);
}

/// The operation has ended: the nodes that it loaded may be evicted.
void Transactions::unpin(Access& access) {
  access.pinned_.clear();
  state_->cache.evict();
}

// ---- Room for writers

uint64_t Transactions::unwritten_bytes() const {
  return (state_->dirty.size() + closed_nodes_) * kNodeSize;
}

Transactions::Callback Transactions::take_pressure_callback() {
  if (pressed_ == state_->running) return nullptr;
  pressed_ = state_->running;
  return pressure_;
}

Result<void> Transactions::wait_for_dirty_room() {
  std::unique_lock lock(mutex_);
  while (takes_changes() && unwritten_bytes() >= 2 * dirty_limit_) {
    if (committing_) {
      commit_ended_->wait(lock);
    } else {
      lock.unlock();
      auto committed = commit();
      if (!committed) return committed.error();
      lock.lock();
    }
  }
  return takes_changes() ? ok() : Error(Errc::read_only);
}

/// False if no writer holds a reservation that could come back.
bool Transactions::wait_for_writer(uint64_t ended_before) {
  std::unique_lock lock(mutex_);
  if (writes_ended_ != ended_before) return true;
  if (writers_ == 0) return false;
  write_ended_->wait(lock);
  return true;
}

Result<void> Transactions::reserve(const Budget& budget, Txn& txn) {
  if (options_.read_only) return Error(Errc::read_only);
  if (!published_.fatal && !published_.blocked && published_.unwritten_bytes < 2 * dirty_limit_) {
    const uint64_t count = TreeState::nodes_for(budget.item_changes, published_.tallest);
    auto reserved = volume_.space().reserve_nodes(count, budget.reserve_class, running());
    if (reserved) {
      txn.reservation_ = std::move(reserved.value());
      return ok();
    }
    if (reserved.error().code != Errc::no_space) return reserved.error();
  }
  return wait_and_reserve(budget, txn);
}

Result<void> Transactions::wait_and_reserve(const Budget& budget, Txn& txn) {
  unsigned commits = 0, waits = 0;
  for (;;) {
    if (published_.blocked) {
      auto committed = commit();
      if (!committed && committed.error() == Errc::device_full) return committed.error();
    }
    auto room = wait_for_dirty_room();
    if (!room) {
      std::lock_guard lock(mutex_);
      return takes_changes() ? room.error() : Error(Errc::read_only);
    }
    uint64_t count = 0, ended_before = 0;
    {
      std::lock_guard lock(mutex_);
      count = state_->nodes_for(budget.item_changes);
      ended_before = writes_ended_;
    }
    auto reserved = volume_.space().reserve_nodes(count, budget.reserve_class, running());
    if (reserved) {
      txn.reservation_ = std::move(reserved.value());
      return ok();
    }
    if (reserved.error().code != Errc::no_space) return reserved.error();
    if (commits < kMaxCommitsForSpace && volume_.space().pinned_bytes() > 0) {
      ++commits;
      auto committed = commit_and_free();
      if (!committed && committed.error() == Errc::device_full) return committed.error();
      if (!committed && committed.error().code != Errc::no_space) return Error(Errc::read_only);
    } else if (waits++ >= kMaxWaitsForSpace || !wait_for_writer(ended_before)) {
      return reserved.error();
    }
  }
}

void Transactions::end_write(Txn& txn) {
  txn.reservation_ = {};
  --writers_;
  ++writes_ended_;
  write_ended_->notify_all();
  publish();
}

void Transactions::publish() {
  published_.running.store(state_->running.value, std::memory_order_release);
  published_.unwritten_bytes.store(unwritten_bytes(), std::memory_order_release);
  published_.tallest.store(state_->tallest(), std::memory_order_release);
  published_.fatal.store(fatal_.has_value(), std::memory_order_release);
  published_.blocked.store(blocked_ != nullptr, std::memory_order_release);
}

// ---- Failure

/// From now on the filesystem is read-only. Nodes that were not written stay in memory for readers.
Error Transactions::fail(const std::string& what, const Error& error) {
  std::unique_lock lock(mutex_);
  if (!fatal_) {
    fatal_ = fmt::format("{} failed: {}; the filesystem is read-only now", what, error.message());
    log_error("{}", *fatal_);
    publish();
  }
  return fatal_error();
}

// ---- State

Generation Transactions::running() const {
  return Generation(published_.running.load(std::memory_order_acquire));
}

Generation Transactions::durable() const {
  std::lock_guard lock(mutex_);
  return durable_;
}

bool Transactions::has_changes() const {
  std::lock_guard lock(mutex_);
  return state_->changed() || obstacle_.has_value();
}

std::optional<std::string> Transactions::fatal() const {
  std::lock_guard lock(mutex_);
  return fatal_;
}

std::optional<std::string> Transactions::obstacle() const {
  std::lock_guard lock(mutex_);
  return obstacle_;
}

uint64_t Transactions::dirty_bytes() const {
  std::lock_guard lock(mutex_);
  return unwritten_bytes();
}

uint64_t Transactions::cached_bytes() const {
  std::lock_guard lock(mutex_);
  return state_->cache.bytes();
}

void Transactions::set_cache_bytes(uint64_t bytes) {
  cache_bytes_ = bytes;
  dirty_limit_ = dirty_limit_of(options_, bytes);
  std::lock_guard lock(mutex_);
  state_->cache.set_limit(bytes);
  state_->cache.evict();
}

void Transactions::set_pressure_callback(std::function<void()> callback) {
  auto shared = std::make_shared<const std::function<void()>>(std::move(callback));
  std::lock_guard lock(mutex_);
  pressure_ = std::move(shared);
}

bool Transactions::node_is_sound(ConstBytes bytes, LogicalOffset address, Generation birth) {
  return validate_node(bytes, address, birth).has_value();
}

Transactions::Replayed Transactions::replayed() {
  std::lock_guard lock(mutex_);
  ASSERT(options_.read_only);
  state_->seal_nodes();
  Replayed replayed{{state_->roots, state_->counters}, state_->running, {}};
  for (const auto& [address, node] : state_->dirty) replayed.nodes.emplace(address, node);
  return replayed;
}

TreeRoot Transactions::root(TreeId tree) const {
  std::lock_guard lock(mutex_);
  return state_->root(tree);
}

Result<std::shared_ptr<const Node>> Transactions::node(const NodeExpectation& expected) {
  {
    std::lock_guard lock(mutex_);
    if (const auto* found = state_->cache.find(expected.pointer)) {
      return std::make_shared<const Node>(**found);
    }
  }
  NodeRequest request{expected, {}, {}};
  loader_.load({&request, 1});
  if (request.error) return *request.error;
  if (!request.node) return Error(Errc::not_found);
  return std::shared_ptr<const Node>(std::move(request.node));
}

}  // namespace moltfs::fs
