// SPDX-License-Identifier: MIT
// Inside fs only: reading and writing whole blocks of a file.
//
//   BlockWriter writer(context, ino);
//   writer.write(spans)       space -> checksums -> map guard -> devices; nothing visible yet
//   writer.record(...)        critical sections: the new extents replace the old ones
//   ~BlockWriter              gives back what was not recorded; releases the guard
//
// Preallocated (unwritten) space is written in place: no superblock, durable or running, refers to
// its bytes as data, so nothing is lost if the power fails before the record becomes a written one.
// Such an extent may also lie in a range that a copier has frozen: the copier copies no unwritten
// extents, so it never writes there. The written extent is born when its record is made, under the
// guard, like an extent in fresh space.
//
// The caller holds a range lock on the blocks: exclusive for writing, shared or exclusive
// for reading.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "fs/content/extents.h"

namespace moltfs::fs {

/// The most extents that one critical section replaces or makes: with the nodes that the changed
/// items may touch, this fits into the metadata reserve of the smallest volume.
inline constexpr size_t kExtentsPerSection = 16;

struct FileRange {
  uint64_t first = 0, end = 0;  ///< bytes
  bool covers(const FileRange& other) const { return first <= other.first && other.end <= end; }
};

/// Whole blocks in aligned memory, to be written at `file_offset`.
struct BlockSpan {
  uint64_t file_offset = 0;
  ConstBytes bytes;
  uint64_t file_end() const { return file_offset + bytes.size(); }
};

/// What a change of content does to the inode, in the critical section that records it.
struct InodeUpdate {
  bool keep_times = false;
  uint64_t size_at_least = 0;
  std::function<void(Inode&)> also;  ///< may be empty

  void apply(Inode& inode, Time now) const;
};

// ---- What a file has in a range, as one critical section finds it. It stays true under a range
//      lock. The first extents only, if there are many: `range.end` is then less than asked for.

/// All extents that overlap `range`, whole, without records.
struct RangeExtents {
  FileRange range;
  std::vector<Extent> extents;
};
/// The written extents of `range`, cut to it, with births and checksums.
struct StoredExtents {
  FileRange range;
  std::vector<Extent> extents;
};
// Errors: node_missing, bad_item.
Result<RangeExtents> load_range(Access& access, const FilesystemContext& context, InodeNumber ino,
                                FileRange range);
Result<StoredExtents> load_stored(Access& access, const FilesystemContext& context, InodeNumber ino,
                                  FileRange range);

/// Calls `visit` for the file extents (without records) of [first, end), ascending, in as many
/// critical sections as needed.
Result<void> visit_extents(FilesystemContext& context, InodeNumber ino, uint64_t first,
                           uint64_t end, const std::function<void(const Extent&)>& visit);

/// Adds `change` (wrapping) to the allocated bytes of `inode`. Error: bad_item if the sum
/// cannot be.
Result<void> add_allocated(Inode& inode, uint64_t change);

/// Fills `into` with the blocks of `ino` from `offset` on, verified, and repairs bad copies if
/// another one is good. Holes and preallocated space read as zeros. `known`: what a critical
/// section under the same range lock found there; not used unless it begins at `offset` and lies
/// within the blocks. REQUIRES: whole blocks, `into` aligned. Errors: io_error (no good copy),
/// bad_item, bad_node.
Result<void> read_blocks(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                         StoredExtents known = {});

class BlockWriter {
 public:
  /// `reserve_class`: reclaiming for writes without which space cannot be given back.
  BlockWriter(FilesystemContext& context, InodeNumber ino,
              alloc::ReserveClass reserve_class = alloc::ReserveClass::normal)
      : context_(context), ino_(ino), reserve_class_(reserve_class) {}
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  /// `spans`: ascending, not overlapping. `known`: what a critical section under the same range
  /// lock found. Call once. Errors: no_space (after commits that could have freed some), io_error.
  Result<void> write(std::span<const BlockSpan> spans, const RangeExtents& known = {});
  /// Takes space for `holes`, to be recorded as unwritten. Call once. Error: no_space.
  Result<void> preallocate(std::span<const FileRange> holes);
  /// Replaces what the file has there by the new extents, in one critical section if there are few
  /// extents. The first section removes inline data: the caller has put it into the first span.
  Result<void> record(const InodeUpdate& update);

  // For a caller with a critical section of its own.
  /// Puts the new extents of [first, end) into `change`.
  Result<void> put_into(ExtentChange& change, Generation running, uint64_t first, uint64_t end);
  void recorded_up_to(uint64_t file_offset) { recorded_end_ = file_offset; }

 private:
  struct New {
    Extent extent;
    bool in_place = false;
  };
  Result<void> plan(std::span<const BlockSpan> spans, const RangeExtents& known,
                    std::vector<FileRange>& fresh);
  Result<void> allocate(std::span<const FileRange> ranges, bool unwritten);
  Result<void> try_allocate(std::span<const FileRange> ranges, bool unwritten);
  std::vector<alloc::LogicalWrite> describe_writes(std::span<const BlockSpan> spans);
  Result<uint64_t> record_section(uint64_t first, size_t limit, const InodeUpdate& update);
  uint64_t new_extents_end(uint64_t first, size_t limit) const;
  void cancel();

  FilesystemContext& context_;
  const InodeNumber ino_;
  const alloc::ReserveClass reserve_class_;
  alloc::MapGuard guard_;
  std::vector<New> extents_;   // by file offset
  size_t old_count_ = 0;       // extents that the file has in their place
  uint64_t recorded_end_ = 0;  // file offset: extents before it are in the trees
};

}  // namespace moltfs::fs
