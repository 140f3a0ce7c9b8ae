// SPDX-License-Identifier: MIT
// fsync: appends a batch to the fsync log if the log can take the changes, else commits.
#include <algorithm>
#include <map>
#include <tuple>

#include "alloc/base/load.h"
#include "fs/tree/state.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {
namespace {

/// Above this payload size a batch may name more data than a mount should have to verify (8 bytes
/// of checksum stand for a block of 4 KiB). Then the data is flushed before the batch is written.
constexpr size_t kMaxUnflushedBytes = 16 * 1024;

}  // namespace

/// What is to be written for one group of fsyncs.
struct Transactions::Batches {
  std::vector<alloc::LogWrite> writes;
  bool flush_first = false;
  bool half_full = false;  // the chain that remains after the running commit
  uint64_t changes = 0;    // the number of the last change in the batches or before them
};

/// One task at a time writes a batch for all callers; see alloc/disk/log_batch.h.
Result<void> Transactions::sync() {
  std::unique_lock lock(mutex_);
  const uint64_t wanted = state_->changes;
  for (;;) {
    if (fatal_) return fatal_error();
    if (secured_ >= wanted || options_.read_only) return ok();
    if (logging_) {
      log_ended_->wait(lock);
      continue;
    }
    if (next_log_ && !next_log_->usable && committing_) {
      commit_ended_->wait(lock);
      continue;
    }
    logging_ = true;
    lock.unlock();
    auto logged = append_to_log();
    lock.lock();
    logging_ = false;
    log_ended_->notify_all();
    TRY(logged);
    if (logged.value()) continue;
    if (next_log_ && committing_) {
      commit_ended_->wait(lock);  // there will be room in the next chain
      continue;
    }
    lock.unlock();
    TRY(commit());
    lock.lock();
  }
}

/// False: the changes need a commit.
Result<bool> Transactions::append_to_log() try {
  Batches batches;
  TRY(const bool possible, read([&](Access& access) { return compose_batches(access, batches); }));
  if (!possible) return false;
  auto written = volume_.write_log(batches.writes, batches.flush_first);
  if (!written &&
      (written.error() == Errc::device_full || written.error() == Errc::missing_device)) {
    std::lock_guard lock(mutex_);
    if (log_) log_->broken = true;
    if (next_log_) next_log_->broken = true;
    return false;
  }
  if (!written) return fail("an fsync", written.error());
  if (!written.value()) return false;

  Callback press;
  {
    std::lock_guard lock(mutex_);
    secured_ = std::max(secured_, batches.changes);
    // Early enough that no fsync has to wait for the commit that makes room.
    if (batches.half_full) press = take_pressure_callback();
  }
  if (press && *press) (*press)();
  return true;
} catch (const std::bad_alloc&) {
  return fail("an fsync", Error(Errc::out_of_memory));
}

/// One batch for each chain. False: the changes need a commit. Changes nothing if it fails with
/// node_missing. REQUIRES: the lock.
Result<bool> Transactions::compose_batches(Access& access, Batches& batches) {
  if (!log_) return false;
  std::map<LogicalOffset, uint64_t> usage;
  for (const auto& change : volume_.space().usage_changes()) {
    usage.emplace(change.chunk, change.used_bytes);
  }
  struct Part {
    ActiveLog* log;
    alloc::LogChain chain;
    alloc::LogBatch batch;
    LogicalOffset next_logical;
  };
  std::vector<Part> parts;
  for (ActiveLog* log : {log_.get(), next_log_.get()}) {
    if (log == nullptr) continue;
    if (log->broken || log->changed.overflowed()) return false;
    if (log == next_log_.get() && !log->usable) return false;
    Part part{log, log->chain, {}, {}};
    TRY(auto content, log_content(access, *log, usage));
    part.batch.payload = encode(content);
    part.batch.running = state_->running;
    part.batch.data_flushed = part.batch.payload.size() > kMaxUnflushedBytes;
    std::tie(part.batch.chunks, part.next_logical) =
        volume_.space().data_chunks_from(log->next_logical);
    if (part.batch.payload.size() > kMaxLogContentBytes) return false;
    parts.push_back(std::move(part));
  }
  const auto devices = volume_.devices();
  batches = {};
  for (Part& part : parts) {
    auto write = part.chain.append(part.batch, devices);
    if (!write) return false;
    batches.writes.push_back(std::move(*write));
    batches.flush_first |= part.batch.data_flushed;
    batches.half_full = part.chain.used_bytes() > alloc::kLogBytes / 2;
  }
  for (Part& part : parts) {
    part.log->chain = part.chain;
    part.log->next_logical = part.next_logical;
    part.log->changed.clear();
    part.log->usage.clear();
    for (const auto& [chunk, bytes] : usage) part.log->usage.insert(chunk);
  }
  batches.changes = state_->changes;
  volume_.space().pin_freed_in(state_->running);
  return true;
}

std::unique_ptr<ActiveLog> Transactions::begin_log(Generation base,
                                                   LogicalOffset next_logical) const {
  auto chain = volume_.log_on(base);
  if (!chain) return nullptr;
  return std::unique_ptr<ActiveLog>(new ActiveLog{*chain, next_logical, {}, {}, true, false});
}

void Transactions::listen() {
  state_->listeners = {log_ ? &log_->changed : nullptr, next_log_ ? &next_log_->changed : nullptr};
}

/// The content of the next batch of `log`. `usage`: the usage records that a commit would write
/// now. REQUIRES: the lock.
Result<LogContent> Transactions::log_content(Access& access, ActiveLog& log,
                                             const std::map<LogicalOffset, uint64_t>& usage) {
  LogContent content;
  content.counters = state_->counters;
  const auto add = [&](const ItemId& id) -> Result<void> {
    const Tree& tree = id.tree == TreeId::fs ? fs_tree_ : extent_tree_;
    TRY(auto value, tree.find(access, id.key));
    content.items.push_back({id, std::nullopt});
    if (value) content.items.back().value.emplace(value->begin(), value->end());
    return ok();
  };
  for (const ItemId& id : log.changed.sorted()) {
    TRY(add(id));
  }
  // Usage records come last: they override what the trees say of the same chunks.
  for (LogicalOffset chunk : log.usage) {
    if (!usage.contains(chunk)) {
      TRY(add({TreeId::extent, usage_key(chunk)}));
    }
  }
  for (const auto& [chunk, bytes] : usage) {
    content.items.push_back({{TreeId::extent, usage_key(chunk)}, std::nullopt});
    if (bytes == 0) continue;
    ChunkUsageOnDisk value{};
    value.used_bytes = bytes;
    const ConstBytes raw = object_bytes(value);
    content.items.back().value.emplace(raw.begin(), raw.end());
  }
  return content;
}

}  // namespace moltfs::fs
