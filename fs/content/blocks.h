// SPDX-License-Identifier: MIT
// Inside fs only: reading and writing whole blocks of a file.
//
//   BlockWriter writer(context, ino);
//   writer.write(pieces)      space -> checksums -> map guard -> devices; nothing visible yet
//   writer.record(...)        critical sections: the new extents take the place of the old ones
//   ~BlockWriter              gives back what was not recorded; releases the guard
//
// Preallocated (unwritten) space is written in place: what lies there is no data to any superblock,
// durable or running, so nothing is lost if the power goes before the record is turned into a
// written one. Neither does it matter that such an extent may lie in a range that a copier has
// frozen: it copies no unwritten extents, so it never writes there; and the extent that comes of
// it is born when its record is made, under the guard, like one in fresh space.
//
// Everything here runs under an exclusive range lock of the caller's.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "fs/content/extents.h"

namespace moltfs::fs {

/// Extents that one critical section replaces or makes at most: with the nodes that the changed
/// items may touch, this fits into the metadata reserve of the smallest volume.
inline constexpr size_t kExtentsPerSection = 16;

struct FileRange {
  uint64_t first = 0, end = 0;
};

/// Whole blocks in aligned memory.
struct Piece {
  uint64_t file_offset = 0;
  ConstBytes bytes;
  uint64_t file_end() const { return file_offset + bytes.size(); }
};

/// What a change of content does to the inode, in the critical section that records it.
struct Settlement {
  bool keep_times = false;
  uint64_t size_at_least = 0;
  std::function<void(Inode&)> also;  ///< may be empty

  void apply(Inode& inode, Time now) const;
};

/// Fills `into` with the blocks of `ino` from `offset` on, verified, and repairs bad copies if
/// another one is good. Holes and preallocated space read as zeros. REQUIRES: whole blocks, `into`
/// aligned, a range lock on the range. Errors: io_error (no good copy), bad_item, bad_node.
Result<void> read_blocks(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into);

/// Calls `visit` for the file extents (without records) of [first, end), ascending, in as many
/// critical sections as it takes. Under a range lock.
Result<void> visit_extents(FilesystemContext& context, InodeNumber ino, uint64_t first,
                           uint64_t end, const std::function<void(const Extent&)>& visit);

/// Adds what the extents of a file have got more (wrapping). Error: bad_item if that cannot be.
Result<void> add_allocated(Inode& inode, uint64_t change);

class BlockWriter {
 public:
  /// `reserve_class`: reclaiming for what has to be written so that space can be given back.
  BlockWriter(FilesystemContext& context, InodeNumber ino,
              alloc::ReserveClass reserve_class = alloc::ReserveClass::normal)
      : context_(context), ino_(ino), reserve_class_(reserve_class) {}
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  /// `pieces`: ascending, not overlapping. Once. Errors: no_space (after commits that could have
  /// freed some), io_error.
  Result<void> write(std::span<const Piece> pieces);
  /// Takes space for `holes`, to be recorded as unwritten. Once. Error: no_space.
  Result<void> preallocate(std::span<const FileRange> holes);
  /// Lets the new extents take the place of what the file has there, in one critical section if it
  /// concerns few extents. Inline data goes with the first section: the caller has put it into the
  /// first piece.
  Result<void> record(const Settlement& settlement);

  // For a caller with a critical section of its own.
  /// Puts the new extents of [first, end) into `change`.
  Result<void> put_into(ExtentChange& change, Generation running, uint64_t first, uint64_t end);
  void recorded_up_to(uint64_t file_offset) { recorded_end_ = file_offset; }

 private:
  struct New {
    Extent extent;
    bool in_place = false;
  };
  Result<void> plan(std::span<const Piece> pieces, std::vector<FileRange>& fresh);
  Result<void> allocate(std::span<const FileRange> ranges, bool unwritten);
  Result<void> try_allocate(std::span<const FileRange> ranges, bool unwritten);
  std::vector<alloc::LogicalWrite> describe_writes(std::span<const Piece> pieces);
  Result<uint64_t> record_section(uint64_t first, size_t limit, const Settlement& settlement);
  uint64_t new_extents_end(uint64_t first, size_t limit) const;
  void cancel();

  FilesystemContext& context_;
  const InodeNumber ino_;
  const alloc::ReserveClass reserve_class_;
  alloc::MapGuard guard_;
  std::vector<New> extents_;   // by file offset
  size_t old_count_ = 0;       // extents that the file has at their place
  uint64_t recorded_end_ = 0;  // file offset: extents before are in the trees
};

}  // namespace moltfs::fs
