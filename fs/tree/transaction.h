// SPDX-License-Identifier: MIT
// Transactions: the running state of both trees, the lock over it, and the commit.
//
// The lock. One std::mutex guards all tree state. An operation is one or more *critical sections*;
// each is a function given to read() or write() that runs under the lock, does no I/O, and changes
// the trees from one consistent state to another. A file operation that must be atomic is one
// critical section: so closing a transaction needs to wait for nobody.
//
//   write(budget, f):  wait for room (dirty limit, node reservation; commits if that frees space)
//                      lock -> f(txn) -> unlock
//                                |  node_missing: unlock, load that node, lock, run f again
//   f first reads and prepares everything it needs, then changes (tree.h, T1). It may run several
//   times: whatever it captures must be assigned, not accumulated.
//
// The commit, by one task at a time; concurrent callers share it:
//   1. critical section: prepare and write usage records of changed chunks; then *close*: compute
//      the checksums of the closed transaction's nodes bottom-up into their parents, call
//      Volume::seal, take roots and counters, ++running. From here the closed nodes are immutable.
//      (Many changed usage records are first written in sections of their own.)
//   2. write them (large batches) through the mapper, under one map guard;
//   3. Volume::finish_commit. Durable: waiters wake, written nodes may be evicted.
// Any error of a member device in 2 or 3 is *fatal*: fatal() holds the reason, every later write()
// returns read_only, every later commit() returns io_error with that reason - also to those who
// were waiting - for good. Reads go on. no_space in 1 is an answer: nothing has changed.
//
// What a crash leaves: before the superblock is durable the former commit, after it this one.
//
// sync() makes durable by the fsync log (redo.h, alloc/disk/log_batch.h) what the log can take, else by
// a commit. A failed write or flush of the log is as fatal as a failed commit. open() replays what
// a crash has left in the log, in memory; it becomes durable by the commit that must follow.
//
// The cache holds nodes by address, bounded by Options::cache_bytes; clean nodes are evicted
// (second chance), dirty ones stay until written: at dirty_limit a commit is started, at twice that
// writers wait for it.
//
// A node read from a device is checked against the pointer it was found by (address, birth,
// checksum, range of keys); on failure the other copies are tried and the bad one repaired. If none
// is right and the node is still allocated, that is bad_node with the address (io_error if no copy
// could be read); if it is not, the pointer was replaced meanwhile and the operation is run again.
//
// Lock order: the lock is taken before any lock of alloc, never after one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "alloc/volume/volume.h"
#include "fs/tree/log_content.h"
#include "fs/tree/tree.h"

namespace moltfs::fs {

class Transactions;
struct TreeState;  // state.h

/// What a critical section holds. Lives on the stack of read()/write().
class Access {
 public:
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  Transactions& transactions() { return transactions_; }
  Generation running() const;
  const FsCounters& counters() const;

 protected:
  friend class Tree;
  friend class Transactions;
  explicit Access(Transactions& transactions);
  ~Access() = default;

  Transactions& transactions_;
  TreeState& state_;
  std::vector<NodeExpectation> missing_;       // set with node_missing; the first is needed
  std::optional<NodePointer> vanished_;        // the last needed one, if it could not be loaded
  std::vector<std::shared_ptr<Node>> pinned_;  // loaded for this operation: not evicted
};

class Txn : public Access {
 public:
  FsCounters& counters_for_change();

 private:
  friend class Tree;
  friend class Transactions;
  explicit Txn(Transactions& transactions) : Access(transactions) {}

  alloc::NodeReservation reservation_;
};

/// How many items an operation changes at most; nodes are reserved for that (and come back).
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
    /// For the last batch of the fsync log: the data that it names is what its checksums say.
    /// Null: nothing in the trees names data.
    std::function<bool(const Redo&)> data_matches = nullptr;
  };

  /// For mkfs: two empty trees, nothing durable until the first commit.
  static Result<std::unique_ptr<Transactions>> create(alloc::Volume& volume, const Options& options,
                                                      const FsCounters& counters);
  /// Reads the fs payload, walks the inner nodes (marking every node in Space), loads the usage
  /// records into Space; between the two it replays the fsync log. REQUIRES of whoever writes: if
  /// found_log().begun of the volume, a commit before anything else. Errors: bad_node, bad_item,
  /// unsupported_feature, io_error, no_space.
  static Result<std::unique_ptr<Transactions>> open(alloc::Volume& volume, const Options& options);
  ~Transactions();

  const Tree& fs_tree() const { return fs_tree_; }
  const Tree& extent_tree() const { return extent_tree_; }
  alloc::Volume& volume() { return volume_; }

  /// Runs `f(Access&) -> Result<T>` under the lock, as often as nodes have to be loaded.
  template <class F>
  auto read(F&& f) -> std::invoke_result_t<F, Access&>;
  /// Runs `f(Txn&) -> Result<T>` likewise. Errors besides f's own: no_space, read_only.
  template <class F>
  auto write(const Budget& budget, F&& f) -> std::invoke_result_t<F, Txn&>;

  /// Makes durable all that was done before the call; returns the generation of the commit that
  /// did. Without changes since the last commit nothing is written, unless `always`: then a commit
  /// is begun and finished after the call (one under way does not count). Errors: io_error (fatal),
  /// read_only, no_space.
  Result<Generation> commit(bool always = false);

  /// Makes durable all that was done before the call, by the fsync log or by a commit. Errors: as
  /// of commit().
  Result<void> sync();

  Generation running() const;  ///< takes the lock
  Generation durable() const;
  bool has_changes() const;  ///< since the last closing
  /// Why the filesystem turned read-only; nothing if it did not.
  std::optional<std::string> fatal() const;
  uint64_t dirty_bytes() const;  ///< of nodes not written yet
  uint64_t cached_bytes() const;
  /// Called (from any task, no lock held) when dirty_limit is reached: the owner starts a commit.
  void set_pressure_callback(std::function<void()> callback);

  /// For check and the copier: a node's bytes are what they should be at `address`, by its header.
  static bool node_is_sound(ConstBytes bytes, LogicalOffset address, Generation birth);

  // ---- For dump and check.
  /// The trees after a replay: roots, and the nodes that are in no device. REQUIRES: read_only.
  struct Replayed {
    FsPayload payload;
    Generation generation;
    std::map<LogicalOffset, std::shared_ptr<const Node>> nodes;
  };
  Replayed replayed();
  TreeRoot root(TreeId tree) const;
  /// A copy of the node that `expected` describes, from memory or from a device.
  Result<std::shared_ptr<const Node>> node(const NodeExpectation& expected);

 private:
  friend class Access;
  friend class Txn;
  class Impl;
  Transactions(alloc::Volume& volume, const Options& options);

  // read() and write() without their types. `section` runs under the lock and returns false if it
  // met node_missing.
  Result<void> drive_read(const std::function<bool(Access&)>& section);
  Result<void> drive_write(const Budget& budget, const std::function<bool(Txn&)>& section);
  Result<void> load_missing(Access& access);

  alloc::Volume& volume_;
  Tree fs_tree_{TreeId::fs};
  Tree extent_tree_{TreeId::extent};
  mutable std::mutex mutex_;  // "the lock"
  std::unique_ptr<Impl> impl_;
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
