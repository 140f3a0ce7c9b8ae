// SPDX-License-Identifier: MIT
// Used by check only: the items of the extent tree (records and the usage of chunks), and the
// blocks of data.
#pragma once

#include <map>
#include <vector>

#include "fs/check/check_findings.h"
#include "fs/check/check_inodes.h"
#include "fs/check/extent_sums.h"
#include "fs/check/tree_reader.h"

namespace moltfs::fs::checking {

class ExtentCheck {
 public:
  /// `states`: after the walk of the fs tree. Nothing may be born after `newest`. With `data` the
  /// blocks are read and verified.
  ExtentCheck(alloc::Volume& volume, Findings& findings, const LostKeys& lost,
              const InodeStates& states, ExtentSums& sums, Generation newest, bool data);

  /// To be called for all items of the tree, ascending; then end().
  void item(const Item& item);
  void end();
  /// Logical bytes of the written extents that were checked so far.
  uint64_t bytes_done() const { return bytes_done_; }
  /// Bytes that matched their checksums, counting each copy.
  uint64_t bytes_verified() const { return bytes_verified_; }

 private:
  /// A record whose blocks are to be read.
  struct Pending {
    LogicalOffset start;
    InodeNumber ino;
    uint64_t file_offset = 0;
    std::vector<uint64_t> checksums;
    AlignedBuffer buffer;
    bool tail_is_checked = false;
  };
  enum class Fault : uint8_t { none, absent /* its device is out */, unreadable, mismatch };

  void record(const Item& item);
  void usage(const Item& item);
  void check_place(const ExtentRecord& record);
  void read_later(const ExtentRecord& record);
  void read_pending();
  void verify(Pending& pending, const alloc::LogicalRead& read, unsigned copy);
  Fault verify_block(Pending& pending, size_t index, bool all_read, unsigned copy);
  void report(const Pending& pending, size_t first, size_t count, Fault fault, unsigned copy);
  void check_tail(const Pending& pending);

  alloc::Volume& volume_;
  Findings& findings_;
  const LostKeys& lost_;
  const InodeStates& states_;
  ExtentSums& sums_;
  const bool data_;
  const alloc::MapGuard guard_;
  const Generation newest_;
  LogicalOffset end_of_last_;
  std::map<LogicalOffset, uint64_t> used_;           // by data chunk: bytes of its extent records
  std::map<LogicalOffset, uint64_t> recorded_used_;  // by data chunk: bytes in its usage record
  std::vector<Pending> pending_;
  uint64_t pending_bytes_ = 0, bytes_done_ = 0, bytes_verified_ = 0;
};

/// Compares, one by one, the file extents and records of the buckets whose sums differ.
class ExtentMatch {
 public:
  ExtentMatch(Findings& findings, const LostKeys& lost, const ExtentSums& sums)
      : findings_(findings), lost_(lost), sums_(sums) {}
  // To be called for the items of both trees, in any order; then compare().
  void fs_item(const Item& item);
  void extent_item(const Item& item);
  void compare();

 private:
  Findings& findings_;
  const LostKeys& lost_;
  const ExtentSums& sums_;
  std::multimap<LogicalOffset, ExtentClaim> file_extents_;
  std::map<LogicalOffset, ExtentClaim> records_;
};

}  // namespace moltfs::fs::checking
