// SPDX-License-Identifier: MIT
// Transactions: critical sections, room for writers, loading of missing nodes.
#include "fs/tree/transaction.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "fs/tree/transaction_impl.h"

namespace moltfs::fs {
namespace {

/// How often a writer that finds no space waits for others to end before it gives up.
constexpr unsigned kMaxWaitsForSpace = 64;
constexpr unsigned kMaxCommitsForSpace = 2;

uint64_t dirty_limit_of(const Transactions::Options& options) {
  const uint64_t limit = options.dirty_limit_bytes != 0
                             ? options.dirty_limit_bytes
                             : std::min<uint64_t>(options.cache_bytes / 4, 64ull << 20);
  return std::max<uint64_t>(limit, 4 * kNodeSize);
}

}  // namespace

// ---- Access, Txn

Access::Access(Transactions& transactions)
    : transactions_(transactions), state_(transactions.impl_->state) {}

Generation Access::running() const {
  return state_.running;
}

const FsCounters& Access::counters() const {
  return state_.counters;
}

FsCounters& Txn::counters_for_change() {
  ++state_.changes;
  return state_.counters;
}

// ---- Transactions

Transactions::Impl::Impl(Transactions& the_owner, alloc::Volume& the_volume,
                         const Options& the_options)
    : owner(the_owner),
      volume(the_volume),
      options(the_options),
      dirty_limit(dirty_limit_of(the_options)),
      loader(the_volume),
      state(the_volume.space(), the_volume.superblock().volume, the_options.cache_bytes),
      commit_ended(the_volume.runtime().make_wait_queue()),
      write_ended(the_volume.runtime().make_wait_queue()),
      log_ended(the_volume.runtime().make_wait_queue()) {
  durable = volume.superblock().generation;
  state.running = volume.first_generation();
}

Transactions::Transactions(alloc::Volume& volume, const Options& options)
    : volume_(volume), impl_(std::make_unique<Impl>(*this, volume, options)) {}

Transactions::~Transactions() = default;

Result<void> Transactions::drive_read(const std::function<bool(Access&)>& section) {
  Access access(*this);
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (section(access)) {
        impl_->unpin(access);
        return ok();
      }
    }
    TRY(load_missing(access));
  }
}

Result<void> Transactions::drive_write(const Budget& budget,
                                       const std::function<bool(Txn&)>& section) {
  Txn txn(*this);
  TRY(impl_->begin_write(budget, txn));
  for (;;) {
    std::unique_lock lock(mutex_);
    if (!impl_->takes_changes()) {
      impl_->end_write(txn);
      return Error(Errc::read_only);
    }
    // The trees may have grown since the nodes were reserved.
    if (txn.reservation_.left() < impl_->state.nodes_for(budget.item_changes)) {
      impl_->end_write(txn);
      lock.unlock();
      TRY(impl_->begin_write(budget, txn));
      continue;
    }
    const uint64_t nodes_before = impl_->state.dirty.size();
    const uint64_t changes_before = impl_->state.changes;
    if (section(txn)) {
      impl_->end_write(txn);
      impl_->unpin(txn);
      if (impl_->state.dirty.size() == nodes_before) return ok();
      std::shared_ptr<const std::function<void()>> press;
      if (impl_->dirty_bytes() >= impl_->dirty_limit && impl_->pressed != impl_->state.running) {
        impl_->pressed = impl_->state.running;
        press = impl_->pressure;
      }
      lock.unlock();
      if (press && *press) (*press)();
      return ok();
    }
    ASSERT(impl_->state.changes == changes_before);  // everything is prepared before any change
    lock.unlock();
    auto loaded = load_missing(txn);
    if (!loaded) {
      lock.lock();
      impl_->end_write(txn);
      return loaded;
    }
  }
}

Result<void> Transactions::load_missing(Access& access) {
  std::vector<NodeRequest> requests;
  for (const NodeExpectation& expected : access.missing_) requests.push_back({expected, {}, {}});
  access.missing_.clear();
  ASSERT(!requests.empty());
  impl_->loader.load(requests);

  std::lock_guard lock(mutex_);
  NodeCache& cache = impl_->state.cache;
  cache.evict();
  for (NodeRequest& request : requests) {
    if (!request.node) continue;
    // Held before it is in the cache: nothing else may push it out before the operation is through.
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
    access.vanished_ = pointer;  // it was replaced meanwhile: the operation will find another
  }
  return ok();
}

/// The operation is through. The tree may have grown and what it loaded may be evicted.
void Transactions::Impl::unpin(Access& access) {
  access.pinned_.clear();
  state.cache.evict();
}

// ---- Room for writers

Result<void> Transactions::Impl::wait_for_dirty_room() {
  std::unique_lock lock(owner.mutex_);
  while (takes_changes() && dirty_bytes() >= 2 * dirty_limit) {
    if (committing) {
      commit_ended->wait(lock);
    } else {
      lock.unlock();
      auto committed = owner.commit();
      if (!committed) return committed.error();
      lock.lock();
    }
  }
  return takes_changes() ? ok() : Error(Errc::read_only);
}

/// False if nobody holds a reservation that could come back.
bool Transactions::Impl::wait_for_writer(uint64_t ended_before) {
  std::unique_lock lock(owner.mutex_);
  if (writes_ended != ended_before) return true;
  if (writers == 0) return false;
  write_ended->wait(lock);
  return true;
}

Result<void> Transactions::Impl::begin_write(const Budget& budget, Txn& txn) {
  unsigned commits = 0, waits = 0;
  for (;;) {
    auto room = wait_for_dirty_room();
    if (!room) {
      std::lock_guard lock(owner.mutex_);
      return takes_changes() ? room.error() : Error(Errc::read_only);
    }
    uint64_t count = 0, ended_before = 0;
    Generation running;
    {
      std::lock_guard lock(owner.mutex_);
      count = state.nodes_for(budget.item_changes);
      ended_before = writes_ended;
      running = state.running;
    }
    auto reserved = volume.space().reserve_nodes(count, budget.reserve_class, running);
    if (reserved) {
      std::lock_guard lock(owner.mutex_);
      txn.reservation_ = std::move(reserved.value());
      ++writers;
      return ok();
    }
    if (reserved.error().code != Errc::no_space) return reserved.error();
    if (commits < kMaxCommitsForSpace && volume.space().pinned_bytes() > 0) {
      ++commits;
      auto committed = owner.commit();
      if (!committed && committed.error().code != Errc::no_space) return Error(Errc::read_only);
    } else if (waits++ >= kMaxWaitsForSpace || !wait_for_writer(ended_before)) {
      return reserved.error();
    }
  }
}

void Transactions::Impl::end_write(Txn& txn) {
  txn.reservation_ = {};
  --writers;
  ++writes_ended;
  write_ended->notify_all();
}

// ---- Questions

Generation Transactions::running() const {
  std::lock_guard lock(mutex_);
  return impl_->state.running;
}

Generation Transactions::durable() const {
  std::lock_guard lock(mutex_);
  return impl_->durable;
}

bool Transactions::has_changes() const {
  std::lock_guard lock(mutex_);
  return impl_->state.changed();
}

std::optional<std::string> Transactions::fatal() const {
  std::lock_guard lock(mutex_);
  return impl_->fatal;
}

uint64_t Transactions::dirty_bytes() const {
  std::lock_guard lock(mutex_);
  return impl_->dirty_bytes();
}

uint64_t Transactions::cached_bytes() const {
  std::lock_guard lock(mutex_);
  return impl_->state.cache.bytes();
}

void Transactions::set_pressure_callback(std::function<void()> callback) {
  auto shared = std::make_shared<const std::function<void()>>(std::move(callback));
  std::lock_guard lock(mutex_);
  impl_->pressure = std::move(shared);
}

bool Transactions::node_is_sound(ConstBytes bytes, LogicalOffset address, Generation birth) {
  return validate_node(bytes, address, birth).has_value();
}

Transactions::Replayed Transactions::replayed() {
  std::lock_guard lock(mutex_);
  TreeState& state = impl_->state;
  ASSERT(impl_->options.read_only);
  state.seal_nodes();
  Replayed replayed{{state.roots, state.counters}, state.running, {}};
  for (const auto& [address, node] : state.dirty) replayed.nodes.emplace(address, node);
  return replayed;
}

TreeRoot Transactions::root(TreeId tree) const {
  std::lock_guard lock(mutex_);
  return impl_->state.root(tree);
}

Result<std::shared_ptr<const Node>> Transactions::node(const NodeExpectation& expected) {
  {
    std::lock_guard lock(mutex_);
    if (const auto* found = impl_->state.cache.find(expected.pointer)) {
      return std::make_shared<const Node>(**found);
    }
  }
  NodeRequest request{expected, {}, {}};
  impl_->loader.load({&request, 1});
  if (request.error) return *request.error;
  if (!request.node) return Error(Errc::not_found);
  return std::shared_ptr<const Node>(std::move(request.node));
}

}  // namespace moltfs::fs
