// SPDX-License-Identifier: MIT
// The window of a swap.
#include "alloc/volume/volume_swap.h"

#include "alloc/base/assert.h"

namespace moltfs::alloc {

void SwapWindow::open(std::shared_ptr<Device> target) {
  std::unique_lock lock(mutex_);
  ASSERT(state_ != State::open);
  target_.swap(target);
  state_ = State::open;
  spoilt_ = false;
  reported_->wait(lock, [&] { return reports_ == 0; });
}

bool SwapWindow::close_done() {
  std::shared_ptr<Device> target;  // released after the lock: that may close the device
  std::unique_lock lock(mutex_);
  ASSERT(state_ == State::open);
  if (spoilt_) return false;
  state_ = State::done;
  member_ = target_;
  target_.swap(target);
  decided_->notify_all();
  return true;
}

void SwapWindow::close_failed() {
  std::shared_ptr<Device> target;  // released after the lock: that may close the device
  std::unique_lock lock(mutex_);
  ASSERT(state_ == State::open);
  state_ = State::closed;
  target_.swap(target);
  decided_->notify_all();
}

bool SwapWindow::target_is_member(const Device* target, bool target_failed) {
  std::shared_ptr<Device> member;  // released after the lock
  std::unique_lock lock(mutex_);
  if (state_ == State::open && target_.get() == target) {
    if (target_failed) spoilt_ = true;
    decided_->wait(lock, [&] { return state_ != State::open; });
  }
  member = member_.lock();
  if (state_ == State::done && member.get() == target) return true;
  if (target_failed) ++reports_;
  return false;
}

void SwapWindow::end_report() {
  std::unique_lock lock(mutex_);
  ASSERT(reports_ > 0);
  if (--reports_ == 0) reported_->notify_all();
}

void SwapWindow::spoil() {
  std::unique_lock lock(mutex_);
  if (state_ == State::open) spoilt_ = true;
}

}  // namespace moltfs::alloc
