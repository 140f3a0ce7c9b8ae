// SPDX-License-Identifier: MIT
// The ledger: what the replace record may claim, and when. It turns the events of commits and
// faults into the Coverage that is written into the superblock, so that R5 holds: nothing on disk
// claims what the target has not flushed.
//
// The events of one commit g come in this order, from the one committer:
//
//     on_seal(g)  ->  [nodes are written]  ->  flush of all devices  ->  on_flushed(g)
//                 ->  superblocks, flush  ->  on_durable(g)  ->  on_seal(g + 1) ...
//
// A fault of the target (or a deliberate end of duplication: close()) may come between any two of
// them, from any task. Each interleaving, and why what is on disk is true:
//
//  fault before on_seal(g)      record_ is cut already when it is looked at.
//  fault between on_seal(g)     a write of transaction g, or one of its nodes, or the flush may be
//    and on_flushed(g)          missing on the target. on_flushed writes the cut record and not the
//                               one that was sealed: D, the last durable generation, is g - 1.
//  fault after on_flushed(g)    the flush has succeeded after the last write of transaction g (data
//                               is on the devices before its record goes in, and so before
//                               on_seal; nodes are before the flush). So commit g may claim g, and
//                               does, though duplication is off by the time it is durable. In
//                               memory D is g - 1, which claims less; the next commit writes that.
//                               A crash before it restores from commit g: nothing of g + 1 is
//                               durable, so nothing is missing.
//  the target was not flushed   although no fault was told of: taken for a fault.
//  the cursor moves on after    not in this commit: the seal has its own copy. This matters twice:
//    on_seal(g)                 the copier's writes may come after the flush; and the copier may
//                               have left out a block that was freed in transaction g + 1, which
//                               a crash brings back.
//  fault at any time            what the cursor gained since the last durable record is not
//                               claimed: the coverage falls back to durable_, then is cut to D.
//  close() at any time          record_ does not claim anything any more, and on_flushed writes
//                               record_ where it is not open.
//  armed again before           record_ only becomes open within on_seal; then the sealed copy is
//    on_flushed(g)              of the same arming. Until then the commit writes the cut record.
//  fault during arming          before its commit is durable: record_ falls back to what it was
//                               before the arming. The commit may have reached the disk and claim
//                               [G0, ...): true, as above.
//
// Guarded by the engine's mutex. Does no I/O, knows no volume.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "replace/record.h"

namespace moltfs::replace {

class Ledger {
 public:
  Ledger() = default;
  /// At mount: `record` as it stands in the superblock of generation `durable`. If its coverage is
  /// open, duplication counts as standing: the caller arms the volume, or calls fault().
  Ledger(Record record, Generation durable);

  /// What is true now. While an arming is not sealed: of the time before it.
  const Record& record() const { return record_; }
  /// The record that the present work is about: that of an unsealed or failed arming, or record().
  Record& current() { return candidate_ && !arm_sealed_ ? *candidate_ : record_; }
  const Record& current() const { return const_cast<Ledger*>(this)->current(); }
  /// True from begin_arming() until the first fault or close().
  bool standing() const { return standing_; }
  /// The coverage of the last durable record, while duplication stands and arming is done.
  const Coverage& durable_coverage() const { return durable_; }

  // ---- Arming: begin_arming -> map published -> older guards drained -> drained() -> a whole
  //      commit -> arming() is false if it went well.
  /// `candidate`: the record as it is to be once armed, but for the open interval.
  void begin_arming(Record candidate);
  /// The next seal fixes G0.
  void drained();
  /// Begun, and its commit is not durable (perhaps never will be).
  bool arming() const { return candidate_.has_value(); }
  /// The arming has failed: record() is what it was before. Returns the candidate.
  Record give_up_arming();

  // ---- The commit hook.
  void on_seal(Generation closing);
  /// The payload for the superblock.
  std::vector<std::byte> on_flushed(bool target_flushed);
  void on_durable(Generation closed);

  /// Duplication broke, or is to end though the replace is not. True the first time.
  bool fault();
  /// Duplication ends, and with it the replace: `last` is its result. REQUIRES: last's coverage is
  /// not open.
  void close(Record last);

 private:
  Record record_;
  bool standing_ = false;

  // What the last healthy record that became durable claims, and the last durable generation.
  Coverage durable_;
  Generation durable_generation_;

  std::optional<Record> candidate_;
  bool drained_ = false, arm_sealed_ = false;
  Record before_arming_;  // valid if arm_sealed_

  // The commit under way.
  Record sealed_;
  bool written_open_ = false;
  Coverage written_;
};

}  // namespace moltfs::replace
