// SPDX-License-Identifier: MIT
// Who has been told of which failure.
#include "alloc/volume/write_failures.h"

#include <algorithm>

namespace moltfs::alloc {

void WriteFailures::add(uint64_t owner, const Error& error) {
  std::lock_guard lock(mutex_);
  failures_.insert_or_assign(owner, Failure{error, ++clock_, false});
  any_.store(true, std::memory_order_release);
}

std::optional<Error> WriteFailures::news(uint64_t owner, Moment file) {
  if (!any_.load(std::memory_order_acquire)) return std::nullopt;
  std::lock_guard lock(mutex_);
  const auto found = failures_.find(owner);
  if (found == failures_.end()) return std::nullopt;
  Failure& failure = found->second;
  const auto known = knows_.find(file);
  const Moment up_to = known == knows_.end() ? file : std::max(file, known->second);
  if (failure.told && failure.when <= up_to) return std::nullopt;
  failure.told = true;
  knows_[file] = failure.when;
  return failure.error;
}

std::optional<Error> WriteFailures::news_for_all() {
  if (!any_.load(std::memory_order_acquire)) return std::nullopt;
  std::lock_guard lock(mutex_);
  std::optional<Error> news;
  Moment latest = all_know_;
  for (const auto& [owner, failure] : failures_) {
    if (failure.told || failure.when <= latest) continue;
    latest = failure.when;
    news = failure.error;
  }
  all_know_ = latest;
  return news;
}

void WriteFailures::closed(Moment file) {
  if (!any_.load(std::memory_order_acquire)) return;
  std::lock_guard lock(mutex_);
  knows_.erase(file);
}

}  // namespace moltfs::alloc
