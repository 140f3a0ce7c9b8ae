// SPDX-License-Identifier: MIT
// File extents and their records: pairs of items, one in each tree, that always change together.
//
//   fs tree      (ino, extent, file offset) -> logical address, length, unwritten?
//   extent tree  (logical address)          -> birth, ino, file offset, length, checksums
//
// An Extent is such a pair. An ExtentChange changes the extents of a file in a range, within one
// critical section: load() the old extents, cut() and put() on this copy, prepare(), apply().
// Cutting an extent in the middle leaves two, each with its share of the checksums and the birth of
// the whole; the space that was cut is freed. Extents that were born in the same transaction and
// are adjacent in the file and in the address space are joined.
//
// E1 The pair agrees: record and file extent have the same length, state and owner. Code that acts
//    on one reads the other and compares.
// E2 Extents of one file do not overlap; offsets and lengths are whole blocks; at most
//    kMaxExtentBytes each; each lies within one chunk.
// E3 Written extents lie below the end of the file (rounded up to a block), and the bytes of the
//    last block after the end are zero, unless a truncate is unfinished (truncate.cc). Unwritten
//    extents may lie beyond the end.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "fs/inode/context.h"

namespace moltfs::fs {

struct Extent {
  uint64_t file_offset = 0;
  LogicalOffset logical;
  uint64_t length = 0;
  bool unwritten = false;
  Generation birth;                 ///< of the record; not set by extents_in
  std::vector<uint64_t> checksums;  ///< one for each block if written; likewise

  uint64_t file_end() const { return file_offset + length; }
  LogicalRange range() const { return {logical, length}; }
  bool overlaps(uint64_t first, uint64_t end) const {
    return file_offset < end && first < file_end();
  }
  /// The part within [first, end) of the file. REQUIRES: overlaps(first, end); whole blocks.
  Extent slice(uint64_t first, uint64_t end) const;
};

/// An item of the extent tree, decoded.
struct ExtentRecord {
  LogicalOffset start;
  uint64_t length = 0;
  Generation birth;
  InodeNumber inode;
  uint64_t file_offset = 0;
  bool unwritten = false;
  ConstBytes checksums;  ///< 8 bytes for each block; valid as long as the item

  LogicalOffset end() const { return start + length; }
  /// REQUIRES: not unwritten; `block` < length / kBlockSize.
  uint64_t checksum(uint64_t block) const;
};

/// Both check every field. Error: bad_item.
Result<Extent> decode_file_extent(const Item& item);
Result<ExtentRecord> decode_record(const Item& item);

// In a critical section. Errors: node_missing, bad_item.

/// The file extents of `ino` that overlap [first, end), ascending, the first `limit` of them;
/// without birth and checksums.
Result<std::vector<Extent>> extents_in(Access& access, const Tree& fs_tree, InodeNumber ino,
                                       uint64_t first, uint64_t end, size_t limit);
/// Visits the records that overlap `range` (also one that begins before it), ascending, until
/// `visit` returns false.
Result<void> visit_records(Access& access, const Tree& extent_tree, LogicalRange range,
                           const std::function<bool(const ExtentRecord&)>& visit);
/// The part of `extent` within [first, end) of the file, with birth and checksums from its record.
Result<Extent> with_record(Access& access, const Tree& extent_tree, InodeNumber ino,
                           const Extent& extent, uint64_t first, uint64_t end);
/// The offset in (first, end] at which a change of [first, end) has to stop so that it concerns at
/// most `limit` extents of the file.
Result<uint64_t> bounded_end(Access& access, const Tree& fs_tree, InodeNumber ino, uint64_t first,
                             uint64_t end, size_t limit);

/// A change of a file's extents in one critical section. The caller changes the inode.
class ExtentChange {
 public:
  ExtentChange(const FilesystemContext& context, InodeNumber ino) : context_(context), ino_(ino) {}

  /// Item changes of a change that concerns `old_count` extents and puts `new_count`, without the
  /// caller's own items.
  static unsigned item_changes(size_t old_count, size_t new_count);

  /// Loads the old extents that overlap [first, end). Call once, first.
  Result<void> load(Txn& txn, uint64_t first, uint64_t end);
  /// Removes [first, end) from the file. REQUIRES: within the loaded range.
  void cut(uint64_t first, uint64_t end);
  /// Puts `extent` (fresh space; complete checksums, or unwritten) in place of what the file had
  /// there. REQUIRES: within the loaded range.
  void put(const Extent& extent);
  /// Turns the unwritten extents in the place of `extent`, which have the same address, into
  /// written ones. Error: bad_item if there is anything else.
  Result<void> write_in_place(const Extent& extent);
  /// Nothing has changed so far; after this nothing can fail.
  Result<void> prepare(Txn& txn);
  void apply(Txn& txn);
  /// How many bytes the file has more (wrapping). After prepare().
  uint64_t allocated_change() const { return allocated_change_; }

 private:
  struct Freed {
    LogicalRange range;
    Generation birth;
  };
  void remove(uint64_t first, uint64_t end, bool frees);
  Result<void> load_previous(Txn& txn);
  bool joins(const Extent& a, const Extent& b) const;
  void join_neighbours();
  void compare();

  const FilesystemContext& context_;
  const InodeNumber ino_;
  std::map<uint64_t, Extent> before_, after_;  // by file offset
  std::vector<Freed> freed_;
  std::vector<LogicalRange> recorded_;
  uint64_t allocated_change_ = 0;
  // What apply() does: the difference between before_ and after_.
  std::vector<Key> erased_extents_, erased_records_;
  std::vector<const Extent*> put_extents_, put_records_;
};

}  // namespace moltfs::fs
