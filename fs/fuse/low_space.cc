// SPDX-License-Identifier: MIT
#include "fs/fuse/low_space.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace moltfs::fs::fuse {
namespace {

/// RELEASE and FORGET of a removed file come a little after close(2) and unlink(2).
constexpr Nanoseconds kForgetsWithin = std::chrono::milliseconds(500);
constexpr Nanoseconds kBetweenReclaims = std::chrono::milliseconds(5);
constexpr Nanoseconds kBetweenWriteBacks = std::chrono::milliseconds(20);
/// More than any volume has free; a few of these can be added.
constexpr uint64_t kLargest = uint64_t{1} << 57;

}  // namespace

void LowSpace::set_limit(uint64_t bytes) {
  limit_ = bytes;
  update();
}

uint64_t LowSpace::free_bytes() {
  const uint64_t taking = taking_;  // before the free bytes are read
  const uint64_t free = filesystem_.writable_bytes();
  return free - std::min(free, taking);
}

/// Sets low_ by the free space of now.
void LowSpace::update() {
  if (limit_ == 0) return;
  const uint64_t limit = this->limit();
  // Each write and each open gets here: while there is plenty, it costs a few loads.
  if (!low_ && filesystem_.surely_writable_bytes() >= limit + taking_) return;
  const uint64_t free = free_bytes();
  if (!low_ && free < limit) become_low();
  if (low_ && free >= 2 * limit && !keep_low_) low_ = false;
}

void LowSpace::become_low() {
  {
    std::lock_guard lock(mutex_);
    if (low_) return;
    reservations_.begin(limit(), now());
    // Before the list of open files is read: a file that is being opened is either in that list, or
    // its open sees that space is low.
    low_ = true;
  }
  for (const uint64_t ino : write_opens_.inodes()) kernel_.forget_attributes(ino);
}

bool LowSpace::attributes_may_be_cached(uint64_t ino) {
  if (!low_ || !write_opens_.is_open(ino)) return true;
  kernel_.forget_attributes(ino);
  return false;
}

void LowSpace::attributes_are_cached(uint64_t ino) {
  if (low_ && write_opens_.is_open(ino)) kernel_.forget_attributes(ino);
}

void LowSpace::opened(uint64_t ino) {
  update();
  attributes_are_cached(ino);
}

bool LowSpace::reserve(uint64_t ino, pid_t thread) {
  if (low_) update();
  if (!low_) return true;
  {
    std::lock_guard lock(mutex_);
    reservations_.write_ended(thread, ino, now());
  }
  return try_to_reserve(ino, thread);
}

bool LowSpace::try_to_reserve(uint64_t ino, pid_t thread) {
  std::lock_guard lock(mutex_);
  return reservations_.reserve(ino, thread, free_bytes(), now());
}

bool LowSpace::reclaim_and_reserve(uint64_t ino, pid_t thread) {
  if (try_to_reserve(ino, thread)) return true;
  for (;;) {
    const bool is_last = write_back_reserved();
    if (try_to_reserve(ino, thread) || try_until_reclaimed(ino, thread)) return true;
    if (is_last) return may_be_preallocated(ino);
    filesystem_.runtime().sleep(kBetweenWriteBacks);
  }
}

bool LowSpace::try_until_reclaimed(uint64_t ino, pid_t thread) {
  for (;;) {
    const bool is_last = now().count() >= forgets_until_;
    // An error belongs to the writers of the data concerned: their fsync reports it.
    const auto reclaimed = filesystem_.reclaim();
    if (try_to_reserve(ino, thread)) return true;
    if (is_last || !reclaimed) return false;
    filesystem_.runtime().sleep(kBetweenReclaims);
  }
}

bool LowSpace::may_be_preallocated(uint64_t ino) {
  const auto bytes = filesystem_.preallocated_bytes(InodeNumber(ino), 0, kMaxFileBytes);
  return !bytes || bytes.value() > 0;
}

/// Ends the reservations whose bytes have come. True: all have, nobody was storing (G2).
bool LowSpace::write_back_reserved() {
  SpaceReservations::WriteBack begun;
  {
    std::lock_guard lock(mutex_);
    std::vector<uint64_t> open_inodes;
    if (reservations_.has_unknown()) open_inodes = write_opens_.inodes();
    begun = reservations_.begin_write_back(open_inodes, now());
  }
  for (const uint64_t ino : begun.inodes) kernel_.write_back(ino);
  std::lock_guard lock(mutex_);
  reservations_.end_write_back(begun);
  return begun.is_complete;
}

bool LowSpace::take_if_plenty(pid_t thread, uint64_t bytes, const Operation& operation) {
  if (run_if_plenty(bytes, operation)) return true;
  std::lock_guard lock(mutex_);
  reservations_.write_ended(thread, 0, now());
  return false;
}

bool LowSpace::run_if_plenty(uint64_t bytes, const Operation& operation) {
  const uint64_t counted = std::min(bytes, kLargest);
  taking_ += counted;
  update();
  const bool plenty = !low_;
  if (plenty) operation();
  taking_ -= counted;
  return plenty;
}

void LowSpace::take_after_write_back(uint64_t bytes, const Operation& operation) {
  keep_low_ = true;
  if (!run_if_plenty(bytes, operation)) {
    set_blocked(true);
    while (!write_back_reserved()) filesystem_.runtime().sleep(kBetweenWriteBacks);
    operation();
    set_blocked(false);
  }
  keep_low_ = false;
}

void LowSpace::set_blocked(bool blocked) {
  std::lock_guard lock(mutex_);
  reservations_.set_blocked(blocked);
}

Result<LowSpace::Taken> LowSpace::begin_store(const Store& store) {
  taking_ += store.bytes;
  update();
  if (!low_) return Taken{store.bytes, 0};
  taking_ -= store.bytes;
  if (const auto begun = try_to_store(store, store.bytes)) return Taken{0, *begun};
  // An error belongs to the writers of the data concerned: their fsync reports it.
  (void)filesystem_.reclaim();
  TRY(const uint64_t preallocated,
      filesystem_.preallocated_bytes(InodeNumber(store.ino), store.offset, store.bytes));
  if (const auto begun = try_to_store(store, store.bytes - preallocated)) return Taken{0, *begun};
  return Errc::no_space;
}

std::optional<uint64_t> LowSpace::try_to_store(const Store& store, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  const uint64_t free = free_bytes();
  if (store.cached) return reservations_.begin_store(store.ino, bytes, free);
  return reservations_.begin_direct_store(store.ino, store.thread, bytes, free, now());
}

void LowSpace::end_store(const Taken& taken) {
  taking_ -= taken.plenty;
  if (taken.reserved > 0) {
    std::lock_guard lock(mutex_);
    reservations_.end_store(taken.reserved);
  }
  update();
}

void LowSpace::closed(uint64_t ino) {
  if (!low_) return;
  std::lock_guard lock(mutex_);
  reservations_.closed(ino);
}

void LowSpace::removed() {
  if (low_) forgets_until_ = (now() + kForgetsWithin).count();
}

}  // namespace moltfs::fs::fuse
