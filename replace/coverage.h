// SPDX-License-Identifier: MIT
// Coverage: the one durable truth about what the target holds.
//
// A table of generation ranges, ascending, without overlaps, each with what the target has of the
// things born in it:
//   all        everything (it was written under duplication)
//   up to X    what lies left of source offset X (the copier is working on this range)
//   nothing    simply not in the table: not reached yet, or a gap
//
// Life:   start                                    {[G0, ...): all}
//         cursor moves          {[0, G0): up to X} {[G0, ...): all}
//         duplication breaks    {[0, G0): up to X} {[G0, D]: all}          D: last durable
//         generation armed again at G1     {[0, G0): up to X} {[G0, D]: all}  gap  {[G1, ...): all}
//                               and the copier walks again from 0: ranges keep what they have;
//                               the gap gets "up to", and where the cursor passes X, so does X.
// What counts as the birth of a thing is the later of its own and of its device extent's
// (stripe's).
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
  /// More than this is never recorded: each suspension adds two, and arm() forgets old ones.
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
  /// The copier has everything left of `cursor` that was born before the open interval.
  /// REQUIRES: open().
  void cursor_reached(PhysicalOffset cursor);
  /// First generation of the open interval. REQUIRES: open().
  Generation armed_since() const;
  /// Left of this nothing born before the open interval is lacking: where a walk has to begin.
  /// The largest offset there is if nothing is lacking at all. REQUIRES: open().
  PhysicalOffset walk_start() const;
  /// True if everything there is, of any birth, left of `end` is on the target.
  bool complete(PhysicalOffset end) const;

  const std::vector<Interval>& intervals() const { return intervals_; }
  void encode(ByteWriter& writer) const;
  /// Checks order and overlap.
  static Result<Coverage> decode(ByteReader& reader);
  std::string describe() const;
  bool operator==(const Coverage&) const = default;

 private:
  void merge_neighbours();

  std::vector<Interval> intervals_;
};

}  // namespace moltfs::replace
