// SPDX-License-Identifier: MIT
// What transaction.cc, commit.cc and open.cc share.
#pragma once

#include <map>

#include "fs/tree/loader.h"
#include "fs/tree/log_content.h"
#include "fs/tree/state.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {

class Transactions::Impl {
 public:
  Impl(Transactions& the_owner, alloc::Volume& the_volume, const Options& the_options);

  // ---- Writing (transaction.cc)
  /// Waits for room, reserves nodes for `budget`, counts the caller in `writers`.
  Result<void> begin_write(const Budget& budget, Txn& txn);
  /// Gives the reservation back. REQUIRES: the lock.
  void end_write(Txn& txn);
  bool takes_changes() const { return !options.read_only && !fatal; }  // REQUIRES: the lock
  void unpin(Access& access);                                          // REQUIRES: the lock
  Result<void> wait_for_dirty_room();
  bool wait_for_writer(uint64_t ended_before);
  uint64_t dirty_bytes() const { return (state.dirty.size() + closed_nodes) * kNodeSize; }

  // ---- The commit (commit.cc)
  struct Closed {
    alloc::Space::Sealed sealed;
    std::vector<std::byte> payload;
    TreeState::ClosedNodes nodes;
  };
  Result<void> run_commit();
  Result<Closed> close();
  Result<size_t> write_usage(Txn& txn);
  Result<void> reserve_for_usage(Txn& txn, size_t records);
  Closed seal();
  Result<void> write_nodes(const TreeState::ClosedNodes& nodes);
  /// `what` (a commit, an fsync) has failed on a member: fatal.
  Error fail(const std::string& what, const Error& error);
  Error fatal_error() const { return Error(Errc::io_error, *fatal); }  // REQUIRES: the lock, fatal

  // ---- The fsync log (sync.cc)
  /// What is to be written for one group of fsyncs.
  struct Batches {
    std::vector<alloc::LogWrite> writes;
    bool flush_first = false;
    bool half_full = false;  // the chain that will be there after the commit under way
    uint64_t changes = 0;    // that are in it, or were before
  };
  Result<bool> log_changes();
  Result<bool> compose(Access& access, Batches& batches);
  Result<Redo> redo_of(Access& access, ActiveLog& on,
                       const std::map<LogicalOffset, uint64_t>& usage);
  /// A new chain on `base`, if there is a log.
  std::unique_ptr<ActiveLog> begin_log(Generation base, LogicalOffset next_logical) const;
  void listen();  // REQUIRES: the lock

  // ---- Opening (open.cc, replay.cc)
  Result<void> replay();
  Result<void> apply(const Redo& redo);
  Result<void> apply_section(Txn& txn, std::span<const Redo::Item> items);
  Result<void> walk(TreeId tree, Generation newest);
  Result<void> load_usage();

  Transactions& owner;
  alloc::Volume& volume;
  const Options options;
  const uint64_t dirty_limit;
  const NodeLoader loader;

  // Guarded by the lock.
  TreeState state;
  Generation durable;
  uint64_t closed_nodes = 0;  // of the commit under way, not written yet
  std::optional<std::string> fatal;
  bool committing = false;
  std::unique_ptr<WaitQueue> commit_ended;
  unsigned writers = 0;  // that hold a reservation
  uint64_t writes_ended = 0;
  std::unique_ptr<WaitQueue> write_ended;
  std::shared_ptr<const std::function<void()>> pressure;
  Generation pressed;  // the generation for which it was called last

  // The fsync log: the chain on the durable superblock (null: there is none), and that on the
  // commit under way, from its closing on.
  std::unique_ptr<ActiveLog> log, next_log;
  bool logging = false;  // a batch is being written
  std::unique_ptr<WaitQueue> log_ended;
  uint64_t secured = 0;  // changes up to this one survive a crash
};

}  // namespace moltfs::fs
