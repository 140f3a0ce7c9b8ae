// SPDX-License-Identifier: MIT
#include "fs/mount/request_load.h"

#include <utility>

namespace moltfs::fs {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

}  // namespace

RequestLoad::RequestLoad(Runtime& runtime)
    : runtime_(runtime),
      window_end_((runtime.now() + kWindow).count()),
      window_begin_(runtime.now()) {}

RequestLoad::Thread::Thread(RequestLoad& load)
    : load_(load), shard_(load.next_shard_.fetch_add(1, kRelaxed) % kShards) {}

void RequestLoad::Thread::took_request(Nanoseconds waited, Nanoseconds now) {
  short_waits_ = static_cast<uint8_t>(short_waits_ << 1 | (waited < kShortWait ? 1 : 0));
  found_waiting_ = waited == Nanoseconds::zero() ? found_waiting_ + 1 : 0;
  // Seldom: all threads read it.
  if (has_backlog() && !load_.has_backlog(now + kBacklogFor / 2)) {
    load_.backlog_until_.store((now + kBacklogFor).count(), kRelaxed);
  }
}

void RequestLoad::Thread::handled_request(Nanoseconds begun, Nanoseconds ended) {
  load_.count_in(shard_, begun, ended);
}

void RequestLoad::count_in(size_t shard, Nanoseconds begun, Nanoseconds ended) {
  shards_[shard].requests.fetch_add(1, kRelaxed);
  shards_[shard].busy.fetch_add((ended - begun).count(), kRelaxed);
  sample(ended);
}

RequestLoad::Totals RequestLoad::totals() const {
  Totals all;
  for (const Shard& shard : shards_) {
    all.requests += shard.requests.load(kRelaxed);
    all.busy += Nanoseconds(shard.busy.load(kRelaxed));
  }
  return all;
}

/// Takes a sample if the window is over.
void RequestLoad::sample(Nanoseconds now) {
  if (now.count() < window_end_.load(kRelaxed)) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || now.count() < window_end_.load(kRelaxed)) return;
  const Totals all = totals();
  const double windows = std::chrono::duration<double>(now - window_begin_) / kWindow;
  const double requests = static_cast<double>(all.requests - before_.requests) / windows;
  const double in_flight =
      std::chrono::duration<double>(all.busy - before_.busy) / kWindow / windows;
  requests_per_window_.store(requests, kRelaxed);
  if (in_flight >= kBusy) busy_until_.store((now + kLinger).count(), kRelaxed);
  before_ = all;
  window_begin_ = now;
  window_end_.store((now + kWindow).count(), kRelaxed);
  if (observer_) observer_(requests >= kMany);
}

bool RequestLoad::requests_are_few() {
  sample(now());
  return requests_per_window_.load(kRelaxed) < kFew;
}

bool RequestLoad::programs_are_at_work() {
  const Nanoseconds moment = now();
  sample(moment);
  return moment.count() < busy_until_.load(kRelaxed);
}

void RequestLoad::observe(std::function<void(bool)> observer) {
  const std::lock_guard lock(mutex_);
  observer_ = std::move(observer);
}

}  // namespace moltfs::fs
