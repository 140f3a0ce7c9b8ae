// SPDX-License-Identifier: MIT
// The accounting of LowSpace (low_space.h): how many bytes the kernel may still hold in its
// writeback cache, and whether one more write fits. It makes no calls: time, free space and what
// the kernel does are told to it.
//
//   G1 What the kernel holds, and was promised, is at most reserved_bytes(). Nothing is promised
//      for stores through mappings and for what a write is longer than kMaxWriteBytes: msync, fsync
//      or close report when there is no space for those.
//   G2 A reservation outlives a write-back while its write(2) may still be *storing*: the program
//      has the kernel's answer, but its bytes are not in the cache yet. That is over when its
//      thread asks again, when the file is closed, or after kStoringFor. A write that stalls for
//      longer may lose its reservation; fsync or close then reports that. The same holds for what
//      is unknown: writes that began before space was low.
//   G3 While an operation takes space that it did not reserve, nothing is reserved.
//   G4 A request that stores more than was reserved takes no space that is reserved.
//
// Life of a reservation:
//
//   reserve() -> fresh --begin_write_back()--> closing --end_write_back()--> gone
//                  ^                             |
//                  +------ still storing (G2) ---+      begin_store(), closed(): gone at once
//
// Unknown bytes and reserved ones look alike when they come. So while something is unknown, bytes
// that come end no reservation; that ends when all files that were open have been written back.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {

/// REQUIRES: calls one at a time.
class SpaceReservations {
 public:
  /// What one write reserves: the longest write that is sure to be stored or refused. It may begin
  /// and end within a block.
  static constexpr uint64_t kBytes = kMaxWriteBytes + 2 * kBlockSize;
  /// G2: from the answer to the last byte in the kernel's cache, on a busy machine too.
  static constexpr Nanoseconds kStoringFor = std::chrono::seconds(1);

  /// Space has become low. The kernel may hold up to `unknown_bytes` that nobody reserved.
  void begin(uint64_t unknown_bytes, Nanoseconds now);
  /// Reserves kBytes for a write by `thread`. False: `free_bytes` is too little, or G3.
  bool reserve(uint64_t ino, pid_t thread, uint64_t free_bytes, Nanoseconds now);
  /// `thread` makes a request, so none of its writes is storing. Threads of foreign pid namespaces
  /// all have number 0: for them the newest reservation of each file stands for all.
  void write_ended(pid_t thread, uint64_t ino, Nanoseconds now);
  /// A request is about to store `bytes` of the file from the writeback cache. Returns what to give
  /// to end_store(). Nothing: they are not all reserved, and `free_bytes` has no room for the rest
  /// beside what is reserved (G4).
  std::optional<uint64_t> begin_store(uint64_t ino, uint64_t bytes, uint64_t free_bytes);
  /// The same for a request of `thread` itself, not from the cache. The reservation of its write
  /// counts as room, and stays.
  std::optional<uint64_t> begin_direct_store(uint64_t ino, pid_t thread, uint64_t bytes,
                                             uint64_t free_bytes, Nanoseconds now);
  void end_store(uint64_t begun) { in_flight_ -= begun; }
  /// No handle for writing is left: the kernel has written the file back.
  void closed(uint64_t ino);
  /// G3.
  void set_blocked(bool blocked) { blocked_ = blocked; }

  /// True: the kernel may hold bytes that nobody reserved, of any file that is open for writing.
  bool has_unknown() const { return has_unknown_; }
  uint64_t reserved_bytes() const { return reserved_ + unknown_ + in_flight_; }

  struct WriteBack {
    std::vector<uint64_t> inodes;  ///< to be written back now
    bool is_complete = false;      ///< nobody is storing: nothing will be left (G2)
    uint64_t unknown_left = 0;
    Nanoseconds low_since{0};
  };
  /// The reservations of now are about to end. `open_inodes`: all that are open for writing; only
  /// needed if has_unknown().
  WriteBack begin_write_back(const std::vector<uint64_t>& open_inodes, Nanoseconds now);
  /// The kernel has written back `done.inodes`.
  void end_write_back(const WriteBack& done);

 private:
  struct File {
    uint64_t fresh = 0;
    uint64_t closing = 0;  // reserved before the write-back that is under way
  };
  struct Storing {
    pid_t thread = 0;
    uint64_t ino = 0;
    Nanoseconds until{0};
  };

  std::map<uint64_t, File> files_;
  uint64_t reserved_ = 0;         // the sum of files_
  std::vector<Storing> storing_;  // G2: the newest reservation of each thread
  bool has_unknown_ = false;
  uint64_t unknown_ = 0;
  uint64_t came_ = 0;       // from the cache, since unknown_ was set
  uint64_t in_flight_ = 0;  // what requests are storing; some of it may no longer be free
  Nanoseconds low_since_{0};
  bool blocked_ = false;
};

}  // namespace moltfs::fs::fuse
