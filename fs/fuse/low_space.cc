// SPDX-License-Identifier: MIT
#include "fs/fuse/low_space.h"

#include <chrono>
#include <vector>

namespace moltfs::fs::fuse {
namespace {

/// RELEASE and FORGET of a removed file come a little after close(2) and unlink(2).
constexpr Nanoseconds kForgetsWithin = std::chrono::milliseconds(500);
constexpr Nanoseconds kBetweenReclaims = std::chrono::milliseconds(5);
constexpr Nanoseconds kBetweenWriteBacks = std::chrono::milliseconds(20);

}  // namespace

void LowSpace::set_limit(uint64_t bytes) {
  limit_ = bytes;
  update();
}

/// Sets low_ by the free space of now.
void LowSpace::update() {
  const uint64_t limit = limit_;
  if (limit == 0) return;
  // Each write and each open gets here: while there is plenty, it costs three loads.
  if (!low_ && filesystem_.surely_writable_bytes() >= limit) return;
  const uint64_t free = filesystem_.writable_bytes();
  if (!low_ && free < limit) become_low();
  if (low_ && free >= 2 * limit) low_ = false;
}

void LowSpace::become_low() {
  {
    std::lock_guard lock(mutex_);
    if (low_) return;
    reservations_.begin(limit_, now());
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
  return reservations_.reserve(ino, thread, filesystem_.writable_bytes(), now());
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
  const auto found = filesystem_.has_preallocated(InodeNumber(ino));
  return !found || found.value();
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

bool LowSpace::may_take(pid_t thread) {
  update();
  if (!low_) return true;
  std::lock_guard lock(mutex_);
  reservations_.write_ended(thread, 0, now());
  return false;
}

void LowSpace::take_after_write_back(const std::function<void()>& operation) {
  set_blocked(true);
  while (!write_back_reserved()) filesystem_.runtime().sleep(kBetweenWriteBacks);
  operation();
  set_blocked(false);
}

void LowSpace::set_blocked(bool blocked) {
  std::lock_guard lock(mutex_);
  reservations_.set_blocked(blocked);
}

void LowSpace::wrote(uint64_t ino, uint64_t bytes, bool cached) {
  if (cached && low_) {
    std::lock_guard lock(mutex_);
    reservations_.written(ino, bytes);
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
