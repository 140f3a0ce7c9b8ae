// SPDX-License-Identifier: MIT
// An fsync: a batch for the log where that will do, else a commit.
#include <algorithm>
#include <map>
#include <tuple>

#include "fs/tree/transaction_impl.h"

namespace moltfs::fs {
namespace {

/// A batch with a longer payload may name so much data that a mount should not have to verify it (a
/// checksum of 8 bytes stands for a block): then the data is flushed before the batch is written.
constexpr size_t kMaxUnflushedBytes = 16 * 1024;

}  // namespace

/// One task at a time writes a batch for all who wait; see alloc/disk/log_batch.h.
Result<void> Transactions::sync() {
  Impl& m = *impl_;
  std::unique_lock lock(mutex_);
  const uint64_t wanted = m.state.changes;
  for (;;) {
    if (m.fatal) return m.fatal_error();
    if (m.secured >= wanted || m.options.read_only) return ok();
    if (m.logging) {
      m.log_ended->wait(lock);
      continue;
    }
    if (m.next_log && !m.next_log->counts) {
      m.commit_ended->wait(lock);
      continue;
    }
    m.logging = true;
    lock.unlock();
    auto logged = m.log_changes();
    lock.lock();
    m.logging = false;
    m.log_ended->notify_all();
    TRY(logged);
    if (logged.value()) continue;
    if (m.next_log) {
      m.commit_ended->wait(lock);  // there will be room in the next chain
      continue;
    }
    lock.unlock();
    TRY(commit());
    lock.lock();
  }
}

/// False: it takes a commit.
Result<bool> Transactions::Impl::log_changes() {
  Batches batches;
  TRY(const bool possible, owner.read([&](Access& access) { return compose(access, batches); }));
  if (!possible) return false;
  auto written = volume.write_log(batches.writes, batches.flush_first);
  if (!written) return fail("an fsync", written.error());
  if (!written.value()) return false;

  std::shared_ptr<const std::function<void()>> press;
  {
    std::lock_guard lock(owner.mutex_);
    secured = std::max(secured, batches.changes);
    // In time, so that no fsync has to wait for the commit that makes room.
    if (batches.half_full && pressed != state.running) {
      pressed = state.running;
      press = pressure;
    }
  }
  if (press && *press) (*press)();
  return true;
}

/// In a critical section. Changes nothing if it fails with node_missing.
Result<bool> Transactions::Impl::compose(Access& access, Batches& batches) {
  if (!log) return false;
  std::map<LogicalOffset, uint64_t> usage;
  for (const auto& change : volume.space().usage_changes()) {
    usage.emplace(change.chunk, change.used_bytes);
  }
  struct Part {
    ActiveLog* log;
    alloc::LogChain chain;
    alloc::LogBatch batch;
    LogicalOffset next_logical;
  };
  std::vector<Part> parts;
  for (ActiveLog* on : {log.get(), next_log.get()}) {
    if (on == nullptr) continue;
    if (on->changed.too_many()) return false;
    Part part{on, on->chain, {}, {}};
    TRY(auto redo, redo_of(access, *on, usage));
    part.batch.payload = encode(redo);
    part.batch.running = state.running;
    part.batch.data_flushed = part.batch.payload.size() > kMaxUnflushedBytes;
    std::tie(part.batch.chunks, part.next_logical) =
        volume.space().data_chunks_from(on->next_logical);
    if (part.batch.payload.size() > kMaxRedoBytes) return false;
    parts.push_back(std::move(part));
  }
  const auto devices = volume.devices();
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
  batches.changes = state.changes;
  volume.space().pin_freed_in(state.running);
  return true;
}

std::unique_ptr<ActiveLog> Transactions::Impl::begin_log(Generation base,
                                                         LogicalOffset next_logical) const {
  auto chain = volume.log_on(base);
  if (!chain) return nullptr;
  return std::unique_ptr<ActiveLog>(new ActiveLog{*chain, next_logical, {}, {}, true});
}

void Transactions::Impl::listen() {
  state.listeners = {log ? &log->changed : nullptr, next_log ? &next_log->changed : nullptr};
}

/// What the next batch on `on` says. `usage`: what a commit would record now.
Result<Redo> Transactions::Impl::redo_of(Access& access, ActiveLog& on,
                                         const std::map<LogicalOffset, uint64_t>& usage) {
  Redo redo;
  redo.counters = state.counters;
  const auto add = [&](const ItemId& id) -> Result<void> {
    const Tree& tree = id.tree == TreeId::fs ? owner.fs_tree_ : owner.extent_tree_;
    TRY(auto value, tree.find(access, id.key));
    redo.items.push_back({id, std::nullopt});
    if (value) redo.items.back().value.emplace(value->begin(), value->end());
    return ok();
  };
  for (const ItemId& id : on.changed.sorted()) {
    TRY(add(id));
  }
  // These come after what the trees say of the same chunks, and so count.
  for (LogicalOffset chunk : on.usage) {
    if (!usage.contains(chunk)) {
      TRY(add({TreeId::extent, usage_key(chunk)}));
    }
  }
  for (const auto& [chunk, bytes] : usage) {
    redo.items.push_back({{TreeId::extent, usage_key(chunk)}, std::nullopt});
    if (bytes == 0) continue;
    ChunkUsageOnDisk value{};
    value.used_bytes = bytes;
    const ConstBytes raw = std::as_bytes(std::span(&value, 1));
    redo.items.back().value.emplace(raw.begin(), raw.end());
  }
  return redo;
}

}  // namespace moltfs::fs
