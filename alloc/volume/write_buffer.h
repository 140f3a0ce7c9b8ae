// SPDX-License-Identifier: MIT
// The write buffer: small writes of file data are collected in memory and written together.
//
// A program that makes many small files, or writes to many places, would wait for a device with
// each write. So small writes are collected in a batch. The batch goes to the devices at once, with
// neighbouring writes in one request: when it is full, with the next batch of the fsync log, or
// with the next commit. Until then reads get the bytes from the buffer. Buffered writes are
// recorded in the trees at once. Therefore:
//
// D1 A commit is made durable only after everything has been written that was in the buffer when
//    its transaction was closed. The same holds for a batch of the fsync log and the moment when it
//    was composed.
// D2 A buffered write is dropped when its place gets a new owner. Space that is freed in the
//    transaction in which it was born may be handed out again, and the old bytes must not be
//    written after the new owner's. Before any write to a place, call displace().
// D3 The map is read when a batch is written. A writer takes its map guard before it adds a write,
//    and holds it until the write is recorded. So a write that is recorded after a replace was
//    armed also goes to the target (R2), and a write that was recorded before is on the source when
//    arming is done.
//
// If a write fails on a member, this is remembered for its owner (write_failures.h). The blocks do
// not match their checksums, so readers never get wrong bytes. If a write fails because the device
// is full, nothing is lost: the batch is put back and taken again later.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::alloc {

/// Thread-safe. Does no I/O.
class WriteBuffer {
 public:
  static constexpr uint64_t kBatchBytes = 1 << 20;
  /// A longer write gains nothing from the buffer.
  static constexpr uint64_t kMaxWriteBytes = 64 * 1024;

  explicit WriteBuffer(Runtime& runtime) : changed_(runtime.make_wait_queue()) {}

  /// Copies `bytes`, which will be written at `at`. False if the batch has no room for them.
  /// REQUIRES: at most kMaxWriteBytes; displace() was called.
  bool add(LogicalOffset at, ConstBytes bytes, uint64_t owner);

  struct Write {
    LogicalOffset at;
    ConstBytes bytes;
    uint64_t owner = 0;
  };
  /// The writes that the caller must make, ascending. Valid until done().
  struct Batch {
    uint64_t number = 0;
    std::vector<Write> writes;
  };
  /// Takes a batch that was put back, else everything that no other caller has taken. Nothing if
  /// there is none.
  std::optional<Batch> take();
  /// The writes of a batch could not be made now. It stays in the buffer.
  void put_back(const Batch& batch);
  /// The writes of a batch have ended. From now on readers get them from the devices.
  void done(const Batch& batch);
  /// (waits) Waits until all batches that were taken before the call are done.
  void wait_for_taken();

  struct Part {
    LogicalOffset at;
    Bytes into;
  };
  /// Copies what is in the buffer. Returns the parts that must be read from the devices.
  std::vector<Part> read(LogicalOffset at, Bytes into) const;

  /// (waits) D2: drops the buffered writes to the range, and waits for those that a taken batch is
  /// writing there.
  void displace(LogicalRange range);

  bool has_put_back() const {
    std::lock_guard lock(mutex_);
    return !put_back_.empty();
  }
  bool empty() const { return count_.load(std::memory_order_acquire) == 0; }

 private:
  struct Memory {
    AlignedBuffer bytes{kBatchBytes};
    uint64_t used = 0;
  };
  struct Slot {
    std::shared_ptr<Memory> memory;
    ConstBytes bytes;
    uint64_t owner = 0;
  };
  using Slots = std::map<LogicalOffset, Slot>;

  Slots::const_iterator first_overlapping(LogicalOffset at) const;
  void forget(Slots::const_iterator slot, LogicalRange range);
  bool is_taken(const Slot& slot) const;

  mutable std::mutex mutex_;
  const std::unique_ptr<WaitQueue> changed_;  // notified when a batch is done
  std::atomic<size_t> count_{0};              // of slots_
  // Guarded by mutex_:
  Slots slots_;  // by place; they do not overlap
  std::shared_ptr<Memory> open_;
  std::map<uint64_t, std::shared_ptr<Memory>> taken_;     // by number
  std::map<uint64_t, std::shared_ptr<Memory>> put_back_;  // by number
  uint64_t last_number_ = 0;                              // the number of open_, if there is one
};

}  // namespace moltfs::alloc
