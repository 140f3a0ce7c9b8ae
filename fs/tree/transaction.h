// SPDX-License-Identifier: MIT
// Transactions: the running state of both trees, the lock over it, and the commit.
//
// The lock. One std::mutex guards all tree state. An operation is one or more *critical sections*.
// A critical section is a function given to read() or write(). It runs under the lock, does no I/O,
// and changes the trees from one consistent state to another. A file operation that must be atomic
// is one critical section. So closing a transaction never has to wait for an operation.
//
//   write(budget, f):  wait for room (dirty limit, node reservation; commits if that frees space)
//                      lock -> f(txn) -> unlock
//                                |  node_missing: unlock, load that node, lock, run f again
//
// f first reads and prepares everything it needs, then changes (tree.h, T1). It may run several
// times, so it must assign to what it captures, never accumulate.
//
// The commit. One task at a time commits; concurrent callers share its result.
//   1. Critical section: prepare and write the usage records of changed chunks. Then *close* the
//      transaction: compute the checksums of its nodes, bottom-up into their parents, call
//      Volume::seal, take roots and counters, ++running. From here on the closed nodes are
//      immutable. (If many usage records changed, they are first written in sections of their own.)
//   2. Write the closed nodes in large batches through the mapper, under one map guard.
//   3. Volume::finish_commit. Now the commit is durable: waiters wake, its nodes may be evicted.
//   4. Volume::free_removed discards and frees what the commit removed. After this the space can be
//      allocated and the next commit can begin.
// If a device is full in step 2 or 3 (the host of an image file has no room), the commit is
// *blocked*: obstacle() holds the reason, and the closed transaction stays as it is. The next
// commit() begins with step 2 for it again. Each write() first calls commit() then, and returns
// device_full if that fails; reads still work. Nothing that was acknowledged as durable is lost.
// Any other error of a member device in step 2 or 3 is *fatal*: fatal() then holds the reason,
// every later write() returns read_only, and every later commit() returns io_error with that
// reason, also to callers that were already waiting. This state is permanent; reads still work.
// no_space in step 1 is returned to the caller; nothing has changed then.
//
// After a crash the volume holds the previous commit if the superblock was not yet durable, else
// this one.
//
// sync() makes changes durable through the fsync log (log_content.h, alloc/disk/log_batch.h) if the
// log can take them, else by a commit. A failed write or flush of the log is as fatal as a failed
// commit; if a device is full, the chains end and a commit is tried instead. open() replays the log
// in memory after a crash; the commit that must follow makes the replayed changes durable.
//
// The cache holds nodes by address, bounded by Options::cache_bytes. Clean nodes are evicted
// (second chance); dirty nodes stay until they are written. At the dirty limit a commit is started,
// at twice the limit writers wait for it.
//
// A node read from a device is checked against the pointer that led to it (address, birth,
// checksum, range of keys). If it is bad, the other copies are tried and the bad one is repaired.
// If no copy is good and the node is still allocated, the error is bad_node with the address
// (io_error if no copy could be read). If the node is no longer allocated, the pointer was replaced
// meanwhile and the operation runs again.
//
// Lock order: fs/README.md. The lock is taken before any lock of alloc, never after one.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "alloc/volume/volume.h"
#include "fs/tree/access.h"
#include "fs/tree/loader.h"
#include "fs/tree/log_content.h"
#include "fs/tree/tree.h"

namespace moltfs::fs {

/// How many items an operation changes at most. Nodes are reserved for that many changes; unused
/// ones are given back.
struct Budget {
  unsigned item_changes = 4;
  alloc::ReserveClass reserve_class = alloc::ReserveClass::normal;
};

class Transactions {
 public:
  struct Options {
    uint64_t cache_bytes = 256ull << 20;
    uint64_t dirty_limit_bytes = 0;  ///< 0: a quarter of the cache, at most 64 MiB
    bool read_only = false;
    /// For the last batch of the fsync log: true if the data that it names matches its checksums.
    /// Null: nothing in the trees names data.
    std::function<bool(const LogContent&)> data_matches = nullptr;
  };

  /// For mkfs: two empty trees, nothing durable until the first commit. Error: no_space.
  static Result<std::unique_ptr<Transactions>> create(alloc::Volume& volume, const Options& options,
                                                      const FsCounters& counters);
  /// Reads the fs payload, walks the inner nodes (marking every node in Space), replays the fsync
  /// log, and loads the usage records into Space. REQUIRES, unless read-only: if found_log().begun
  /// of the volume, the caller commits before anything else. Errors: bad_node, bad_item,
  /// unsupported_feature, io_error, no_space.
  static Result<std::unique_ptr<Transactions>> open(alloc::Volume& volume, const Options& options);
  ~Transactions();

  const Tree& fs_tree() const { return fs_tree_; }
  const Tree& extent_tree() const { return extent_tree_; }
  alloc::Volume& volume() { return volume_; }

  /// Runs `f(Access&) -> Result<T>` under the lock; again each time nodes had to be loaded. Errors
  /// besides those of f: bad_node, io_error.
  template <class F>
  auto read(F&& f) -> std::invoke_result_t<F, Access&>;
  /// Runs `f(Txn&) -> Result<T>` likewise. Errors besides those of f: no_space, read_only,
  /// bad_node, io_error.
  template <class F>
  auto write(const Budget& budget, F&& f) -> std::invoke_result_t<F, Txn&>;

  /// Makes all changes made before the call durable; returns the generation of the commit that did.
  /// Without changes since the last commit nothing is written, unless `always`: then a commit
  /// begins and ends after the call (one already running does not count). Errors: io_error (fatal),
  /// read_only, no_space, device_full.
  Result<Generation> commit(bool always = false);
  /// The same, but returns only when the space that the commit made free can be allocated.
  Result<Generation> commit_and_free(bool always = false);

  /// Makes all changes made before the call durable, through the fsync log or by a commit. Errors:
  /// as of commit().
  Result<void> sync();

  Generation running() const;  ///< takes no lock
  Generation durable() const;
  bool has_changes() const;  ///< since the last closing, or the commit is blocked
  /// Why the filesystem became read-only; nothing if it did not.
  std::optional<std::string> fatal() const;
  /// Why the last commit could not be made yet; nothing if none is blocked.
  std::optional<std::string> obstacle() const;
  uint64_t dirty_bytes() const;  ///< of nodes not written yet
  uint64_t cached_bytes() const;
  /// Gives the cache of nodes another limit, at once, and the dirty nodes a quarter of that (unless
  /// Options::dirty_limit_bytes is given).
  void set_cache_bytes(uint64_t bytes);
  uint64_t cache_bytes() const { return cache_bytes_; }
  /// Called (from any task, no lock held) when the dirty limit is reached, or the fsync log is half
  /// full: the owner starts a commit.
  void set_pressure_callback(std::function<void()> callback);

  /// For check and the copier: the bytes are a valid node with this address and birth.
  static bool node_is_sound(ConstBytes bytes, LogicalOffset address, Generation birth);

  // ---- For dump and check.
  /// The trees after a replay: roots, and the nodes that are on no device. REQUIRES: read_only.
  struct Replayed {
    FsPayload payload;
    Generation generation;
    std::map<LogicalOffset, std::shared_ptr<const Node>> nodes;
  };
  Replayed replayed();
  TreeRoot root(TreeId tree) const;
  /// A copy of the node that `expected` describes, from memory or from a device. Errors: not_found
  /// (no longer allocated), bad_node, io_error.
  Result<std::shared_ptr<const Node>> node(const NodeExpectation& expected);

 private:
  struct Closed;   // commit_trees.cc
  struct Batches;  // log_append.cc
  using Callback = std::shared_ptr<const std::function<void()>>;
  Transactions(alloc::Volume& volume, const Options& options);

  // ---- Critical sections (transaction.cc)
  /// read() and write() without their types. `section` runs under the lock and returns false if it
  /// met node_missing.
  Result<void> drive_read(const std::function<bool(Access&)>& section);
  Result<void> drive_write(const Budget& budget, const std::function<bool(Txn&)>& section);
  Result<void> load_missing(Access& access);
  void unpin(Access& access);  // REQUIRES: the lock
  /// Reserves nodes for `budget`, without the lock if there is room. Errors: no_space, read_only.
  Result<void> reserve(const Budget& budget, Txn& txn);
  /// The same, but waits for room and commits to make some.
  Result<void> wait_and_reserve(const Budget& budget, Txn& txn);
  /// Gives the reservation back and publishes. REQUIRES: the lock, the writer counts in writers_.
  void end_write(Txn& txn);
  Result<void> wait_for_dirty_room();
  bool wait_for_writer(uint64_t ended_before);
  bool takes_changes() const { return !options_.read_only && !fatal_; }  // REQUIRES: the lock
  uint64_t unwritten_bytes() const;                                      // REQUIRES: the lock
  /// Brings published_ up to date. REQUIRES: the lock.
  void publish();
  /// What to call after the lock is released, so that a commit begins: once for each generation.
  /// REQUIRES: the lock.
  Callback take_pressure_callback();
  /// `what` (a commit, an fsync) has failed on a member: fatal.
  Error fail(const std::string& what, const Error& error);
  /// The commit of `closed` has failed for lack of room: it is blocked.
  Error block(std::shared_ptr<Closed> closed, const Error& error);
  Error fatal_error() const { return Error(Errc::io_error, *fatal_); }  // REQUIRES: the lock, fatal

  // ---- The commit (commit_trees.cc)
  Result<void> run_commit();
  /// The transaction that is blocked, or the running one, which is closed now.
  Result<std::shared_ptr<Closed>> closed_transaction();
  Result<Closed> close();
  Result<size_t> write_usage(Txn& txn);
  Result<void> reserve_for_usage(Txn& txn, size_t records);
  Closed seal();

  // ---- The fsync log (log_append.cc)
  Result<bool> append_to_log();
  Result<bool> compose_batches(Access& access, Batches& batches);
  Result<LogContent> log_content(Access& access, ActiveLog& log,
                                 const std::map<LogicalOffset, uint64_t>& usage);
  /// A new chain on `base`, if there is a log.
  std::unique_ptr<ActiveLog> begin_log(Generation base, LogicalOffset next_logical) const;
  void listen();  // REQUIRES: the lock

  // ---- Opening (open_trees.cc, log_replay.cc)
  Result<void> walk(TreeId tree, Generation newest);
  Result<void> load_usage();
  Result<void> replay();
  Result<void> apply(const LogContent& content);
  Result<void> apply_section(Txn& txn, std::span<const LogContent::Item> items);

  alloc::Volume& volume_;
  const Options options_;
  std::atomic<uint64_t> cache_bytes_, dirty_limit_;
  const NodeLoader loader_;
  const Tree fs_tree_{TreeId::fs};
  const Tree extent_tree_{TreeId::extent};
  const std::unique_ptr<WaitQueue> commit_ended_, write_ended_, log_ended_;

  /// Copies of guarded state, for readers without the lock. A reader may see old values: what
  /// depends on them is checked again under the lock.
  struct Published {
    std::atomic<uint64_t> running{0};
    std::atomic<uint64_t> unwritten_bytes{0};
    std::atomic<unsigned> tallest{1};
    std::atomic<bool> fatal{false}, blocked{false};
  };
  Published published_;

  mutable std::mutex mutex_;  // "the lock"; it guards everything below
  const std::unique_ptr<TreeState> state_;
  Generation durable_;
  uint64_t closed_nodes_ = 0;  // of the running commit, not written yet
  std::optional<std::string> fatal_;
  std::shared_ptr<Closed> blocked_;      // closed; its commit has to be tried again
  std::optional<std::string> obstacle_;  // why; also while it is being tried again
  uint64_t attempts_ = 0;                // commits that were begun
  bool committing_ = false;
  bool freeing_ = false;  // the running commit is durable, but free_removed() has not returned
  unsigned writers_ = 0;  // that hold a reservation
  uint64_t writes_ended_ = 0;
  Callback pressure_;
  Generation pressed_;  // the generation for which pressure_ was called last

  // The fsync log: the chain on the durable superblock (null: there is none), and the chain on the
  // running commit, from its closing on.
  std::unique_ptr<ActiveLog> log_, next_log_;
  bool logging_ = false;  // a batch is being written
  uint64_t secured_ = 0;  // changes up to this one survive a crash
};

template <class F>
auto Transactions::read(F&& f) -> std::invoke_result_t<F, Access&> {
  std::optional<std::invoke_result_t<F, Access&>> result;
  TRY(drive_read([&](Access& access) {
    result.emplace(f(access));
    return result->has_value() || result->error().code != Errc::node_missing;
  }));
  return std::move(*result);
}

template <class F>
auto Transactions::write(const Budget& budget, F&& f) -> std::invoke_result_t<F, Txn&> {
  std::optional<std::invoke_result_t<F, Txn&>> result;
  TRY(drive_write(budget, [&](Txn& txn) {
    result.emplace(f(txn));
    return result->has_value() || result->error().code != Errc::node_missing;
  }));
  return std::move(*result);
}

}  // namespace moltfs::fs
