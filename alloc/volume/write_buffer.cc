// SPDX-License-Identifier: MIT
// The write buffer: adding, taking and reading writes.
#include "alloc/volume/write_buffer.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/assert.h"

namespace moltfs::alloc {

namespace {

LogicalOffset end_of(LogicalOffset at, ConstBytes bytes) {
  return at + bytes.size();
}

}  // namespace

/// The first slot that ends after `at`.
WriteBuffer::Slots::const_iterator WriteBuffer::first_overlapping(LogicalOffset at) const {
  auto slot = slots_.upper_bound(at);
  if (slot != slots_.begin()) {
    const auto before = std::prev(slot);
    if (end_of(before->first, before->second.bytes) > at) return before;
  }
  return slot;
}

bool WriteBuffer::add(LogicalOffset at, ConstBytes bytes, uint64_t owner) {
  ASSERT(bytes.size() <= kMaxWriteBytes);
  std::lock_guard lock(mutex_);
  if (!open_) {
    open_ = std::make_shared<Memory>();
    ++last_number_;
  }
  if (open_->used + bytes.size() > open_->bytes.size()) return false;
  const Bytes copy = open_->bytes.span().subspan(open_->used, bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  open_->used += bytes.size();
  const bool is_new = slots_.emplace(at, Slot{open_, copy, owner}).second;
  ASSERT(is_new);
  count_.store(slots_.size(), std::memory_order_release);
  return true;
}

std::optional<WriteBuffer::Batch> WriteBuffer::take() {
  std::lock_guard lock(mutex_);
  if (!open_ && put_back_.empty()) return std::nullopt;
  Batch batch;
  std::shared_ptr<Memory> memory;
  if (put_back_.empty()) {
    batch.number = last_number_;
    memory = std::move(open_);
    open_.reset();
  } else {
    batch.number = put_back_.begin()->first;
    memory = std::move(put_back_.begin()->second);
    put_back_.erase(put_back_.begin());
  }
  for (const auto& [at, slot] : slots_) {
    if (slot.memory == memory) batch.writes.push_back({at, slot.bytes, slot.owner});
  }
  taken_.emplace(batch.number, std::move(memory));
  return batch;
}

void WriteBuffer::put_back(const Batch& batch) {
  std::lock_guard lock(mutex_);
  const auto found = taken_.find(batch.number);
  ASSERT(found != taken_.end());
  put_back_.insert(taken_.extract(found));
  changed_->notify_all();
}

bool WriteBuffer::is_taken(const Slot& slot) const {
  return std::any_of(taken_.begin(), taken_.end(),
                     [&](const auto& taken) { return taken.second == slot.memory; });
}

void WriteBuffer::done(const Batch& batch) {
  std::shared_ptr<Memory> memory;  // freed after the lock is released
  std::lock_guard lock(mutex_);
  const auto found = taken_.find(batch.number);
  ASSERT(found != taken_.end());
  memory = std::move(found->second);
  taken_.erase(found);
  std::erase_if(slots_, [&](const auto& slot) { return slot.second.memory == memory; });
  count_.store(slots_.size(), std::memory_order_release);
  changed_->notify_all();
}

void WriteBuffer::wait_for_taken() {
  std::unique_lock lock(mutex_);
  const uint64_t newest = last_number_;
  changed_->wait(lock, [&] { return taken_.empty() || taken_.begin()->first > newest; });
}

std::vector<WriteBuffer::Part> WriteBuffer::read(LogicalOffset at, Bytes into) const {
  std::vector<Part> rest;
  std::lock_guard lock(mutex_);
  const LogicalOffset end = end_of(at, into);
  LogicalOffset reached = at;
  const auto add_rest_until = [&](LogicalOffset until) {
    if (reached < until) rest.push_back({reached, into.subspan(reached - at, until - reached)});
  };
  for (auto slot = first_overlapping(at); slot != slots_.end() && slot->first < end; ++slot) {
    const LogicalOffset from = std::max(at, slot->first);
    const LogicalOffset until = std::min(end, end_of(slot->first, slot->second.bytes));
    add_rest_until(from);
    std::memcpy(into.data() + (from - at), slot->second.bytes.data() + (from - slot->first),
                until - from);
    reached = until;
  }
  add_rest_until(end);
  return rest;
}

void WriteBuffer::displace(LogicalRange range) {
  if (empty()) return;
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto slot = first_overlapping(range.start);
    if (slot == slots_.end() || slot->first >= range.end()) break;
    if (is_taken(slot->second)) {
      changed_->wait(lock);
    } else {
      forget(slot, range);
    }
  }
  count_.store(slots_.size(), std::memory_order_release);
}

/// Keeps the parts of `slot` outside `range`.
void WriteBuffer::forget(Slots::const_iterator slot, LogicalRange range) {
  const LogicalOffset at = slot->first;
  const Slot old = slot->second;
  slots_.erase(slot);
  if (at < range.start) {
    slots_.emplace(at, Slot{old.memory, old.bytes.first(range.start - at), old.owner});
  }
  if (end_of(at, old.bytes) > range.end()) {
    slots_.emplace(range.end(), Slot{old.memory, old.bytes.subspan(range.end() - at), old.owner});
  }
}

}  // namespace moltfs::alloc
