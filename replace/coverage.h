// SPDX-License-Identifier: MIT
// Coverage: the durable truth about what the target holds. README.md shows how it develops.
//
// A table of generation ranges, ascending and without overlaps. It says what the target has of the
// things born in each range:
//   all        everything: it was written under duplication
//   up to X    what lies left of source offset X: the copier works on this range
//   nothing    the range is not in the table: not reached yet, or a gap
//
// When duplication is armed again, the copier walks again from the start. Ranges keep what they
// have, a gap becomes "up to", and where the cursor passes X, so does X.
//
// The birth of a thing is the later of its own and that of its device extent (stripe).
#pragma once

#include <cstdint>
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

  /// True if the target has a thing born in `birth` that lies at `at` on the source. For a thing
  /// longer than a block, ask for its last block.
  bool covers(Generation birth, PhysicalOffset at) const;
  /// True if duplication is on (the last interval is all and open).
  bool open() const;

  /// Duplication holds from `first` on. REQUIRES: !open(), first > every generation in the table.
  void arm(Generation first);
  /// Duplication broke: nothing after `last_durable` counts. REQUIRES: open().
  void disarm(Generation last_durable);
  /// Everything left of `cursor` that was born before the open interval is on the target.
  /// REQUIRES: open().
  void cursor_reached(PhysicalOffset cursor);
  /// First generation of the open interval. REQUIRES: open().
  Generation armed_since() const;
  /// Where a walk has to begin: left of this offset the target lacks nothing. The largest offset
  /// there is if it lacks nothing at all. REQUIRES: open().
  PhysicalOffset walk_start() const;
  /// True if everything left of `end`, of any birth, is on the target.
  bool complete(PhysicalOffset end) const;

  const std::vector<Interval>& intervals() const { return intervals_; }
  void encode(ByteWriter& writer) const;
  /// Checks order and overlap.
  static Result<Coverage> decode(ByteReader& reader);
  std::string describe() const;
  bool operator==(const Coverage&) const = default;

 private:
  void forget_beyond(size_t count);
  void merge_neighbours();

  std::vector<Interval> intervals_;
};

}  // namespace moltfs::replace
