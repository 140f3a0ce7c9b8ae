// SPDX-License-Identifier: MIT
// Small writes of content that wait in memory for company.
//
// A program that makes many small files, or writes here and there, would wait for a device with
// each write. So small ones are gathered in a batch and go to the devices together, neighbours in
// one request: when the batch is full, with the next batch of the fsync log, or with the next
// commit. Until then reads get them from here. As these writes are recorded in the trees at once:
//
// D1 A commit, and a batch of the fsync log, is made durable only after everything that was here
//    when its transaction was closed (when the batch was composed) has been written.
// D2 Places that got a new owner are not written any more: what was freed in the transaction it was
//    born in may be handed out again, and what waited for that place must not come after the new
//    owner's bytes. Whoever writes to a place calls displace() first.
// D3 The map is looked at when they are written, and a writer holds its map guard from before it
//    adds them until they are recorded. So what is recorded from the arming of a replace on goes to
//    the target as well (R2), and what was recorded before is on the source when arming is done.
//
// A write that fails on a member is remembered for its owner (a file), and told to the next fsync
// of it, as the kernel's filesystems do; the blocks do not match their checksums, so no reader ever
// takes something else for them.
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
  /// What is longer than this gains nothing by waiting.
  static constexpr uint64_t kMaxWriteBytes = 64 * 1024;

  explicit WriteBuffer(Runtime& runtime) : changed_(runtime.make_wait_queue()) {}

  /// Copies `bytes`, to be written at `at`. False: the batch has no room for them. REQUIRES: at
  /// most kMaxWriteBytes; displace() was called.
  bool add(LogicalOffset at, ConstBytes bytes, uint64_t owner);

  struct Write {
    LogicalOffset at;
    ConstBytes bytes;
    uint64_t owner = 0;
  };
  /// What the caller is to write, ascending. Valid until done().
  struct Batch {
    uint64_t number = 0;
    std::vector<Write> writes;
  };
  /// All that is here and nobody is about to write. Nothing: there is none.
  std::optional<Batch> take();
  /// The writes of a batch have ended; from now on they are read from the devices.
  void done(const Batch& batch);
  /// (waits) Until all that was taken before the call is done.
  void wait_for_taken();

  struct Part {
    LogicalOffset at;
    Bytes into;
  };
  /// Fills what is here; the rest is to be read from devices.
  std::vector<Part> read(LogicalOffset at, Bytes into) const;

  /// (waits) D2: forgets what waits for the range; waits for what is being written there.
  void displace(LogicalRange range);

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
  bool is_taken(const Slot& slot) const { return slot.memory != open_; }

  mutable std::mutex mutex_;
  const std::unique_ptr<WaitQueue> changed_;  // a batch is done
  std::atomic<size_t> count_{0};              // of slots_
  // Guarded by mutex_:
  Slots slots_;  // by their place; do not overlap
  std::shared_ptr<Memory> open_;
  std::map<uint64_t, std::shared_ptr<Memory>> taken_;  // by number
  uint64_t last_number_ = 0;                           // open_ has it, if there is one
};

}  // namespace moltfs::alloc
