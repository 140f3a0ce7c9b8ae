// SPDX-License-Identifier: MIT
// Coverage: the durable truth about what the target holds. README.md shows how it develops.
//
// A table of generation ranges, ascending and without overlaps. It says what the target has of the
// things born in each range:
//   all        everything: it was written under duplication, or before the device went out
//   up to X    what lies left of source offset X: the copier works on this range
//   nothing    the range is not in the table: not reached yet, or a gap
//
// When duplication is armed again, the copier walks again from the start. Ranges keep what they
// have, a gap becomes "up to", and where the cursor passes X, so does X.
//
// The birth of a thing is the later of its own and that of its device extent (stripe).
//
// Holes are exceptions: parts of the source that could not be read. What lies in a hole is on the
// target only if it was born in a range "all", whatever else the table says. A target with holes is
// not complete, unless the user has accepted their loss.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "alloc/base/codec.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"

namespace moltfs::replace {

inline constexpr Generation kOpenEnd{~uint64_t{0}};

class Coverage {
 public:
  struct Interval {
    Generation first, last;  ///< inclusive; last may be kOpenEnd
    bool all = false;
    PhysicalOffset up_to;  ///< if not all
    bool operator==(const Interval&) const = default;
  };
  /// The most that is recorded. Each suspension adds two; arm() forgets old ones, and so does
  /// cursor_reached() if there are more: then an image has claimed more than arm() leaves.
  static constexpr size_t kMaxIntervals = 512;

  struct Hole {
    PhysicalRange range;    ///< on the source; multiples of 4 KiB
    uint64_t blocks = 0;    ///< that could not be read (data: 4 KiB, nodes: 16 KiB)
    bool accepted = false;  ///< the user gives them up
    bool operator==(const Hole&) const = default;
  };
  /// The most that is recorded. If there are more, the two that are nearest become one.
  static constexpr size_t kMaxHoles = 256;

  /// True if the target has a thing born in `birth` that lies at `at` on the source. For a thing
  /// longer than a block, ask for its last block.
  bool covers(Generation birth, PhysicalOffset at) const;
  /// True if duplication is on (the last interval is all and open).
  bool open() const;

  /// Of a device that comes back: everything born in `last` or earlier is on it. REQUIRES: the
  /// table is empty, last > 0.
  void claim_until(Generation last);
  /// Duplication holds from `first` on. REQUIRES: !open(), first > every generation in the table.
  void arm(Generation first);
  /// Duplication broke: nothing after `last_durable` counts. REQUIRES: open().
  void disarm(Generation last_durable);
  /// Everything left of `cursor` that was born before the open interval is on the target.
  /// REQUIRES: open().
  void cursor_reached(PhysicalOffset cursor);
  /// The newest generation that the table says anything about; kOpenEnd if it is open, 0 if the
  /// table is empty.
  Generation newest() const;
  /// First generation of the open interval. REQUIRES: open().
  Generation armed_since() const;
  /// Where a walk has to begin: left of this offset the target lacks nothing. The largest offset
  /// there is if it lacks nothing at all. REQUIRES: open().
  PhysicalOffset walk_start() const;
  /// True if everything left of `end`, of any birth, is on the target, but for holes whose loss was
  /// accepted.
  bool complete(PhysicalOffset end) const;

  const std::vector<Interval>& intervals() const { return intervals_; }
  /// Ascending, without overlaps. covers() knows nothing of them.
  const std::vector<Hole>& holes() const { return holes_; }
  uint64_t lost_blocks() const;  ///< sum of Hole::blocks
  void add_hole(Hole hole);
  /// The hole at `range` was read again; `left` is what still cannot be read.
  void read_again(PhysicalRange range, std::span<const PhysicalRange> left);
  void accept_holes(bool accepted);
  bool has_unaccepted_holes() const;
  /// Only the ranges "all": no offsets, no holes.
  Coverage duplicated() const;
  /// Only the holes: what the target lacks when the replace has ended.
  Coverage only_holes() const;

  void encode(ByteWriter& writer) const;
  /// Checks order and overlap.
  static Result<Coverage> decode(ByteReader& reader);
  void encode_holes(ByteWriter& writer) const;
  Result<void> decode_holes(ByteReader& reader);
  std::string describe() const;
  bool operator==(const Coverage&) const = default;

 private:
  void forget_beyond(size_t count);
  void merge_neighbours();
  void join_holes(size_t first);

  std::vector<Interval> intervals_;
  std::vector<Hole> holes_;
};

}  // namespace moltfs::replace
