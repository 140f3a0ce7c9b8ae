// SPDX-License-Identifier: MIT
// The ledger: what the replace record may claim, and when. It turns the events of commits and
// faults into the Coverage that is written to the superblock, so that R5 holds: nothing on disk
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
//  fault before on_seal(g)      The seal already copies the cut record.
//  fault between on_seal(g)     A write of transaction g, or one of its nodes, or the flush may be
//    and on_flushed(g)          missing on the target. on_flushed writes the cut record, not the
//                               sealed one: D, the last durable generation, is g - 1.
//  fault after on_flushed(g)    The flush succeeded after the last write of transaction g: data is
//                               on the devices before its record goes in, and so before on_seal;
//                               nodes are written before the flush. So commit g may claim g. It
//                               does, although duplication is off by the time it is durable. In
//                               memory D is g - 1, which claims less; the next commit writes that.
//                               After a crash before the next commit, commit g counts: nothing of
//                               g + 1 is durable, so nothing is missing.
//  the target was not flushed,  Counts as a fault.
//    but no fault was reported
//  the cursor moves on after    Not in this commit: the seal has its own copy. This matters twice:
//    on_seal(g)                 the copier's writes may come after the flush, and the copier may
//                               have left out a block that was freed in transaction g + 1 and that
//                               a crash brings back.
//  fault at any time            What the cursor gained since the last durable record is not
//                               claimed: the coverage falls back to durable_, then is cut to D.
//  close() at any time          record_ claims nothing any more, and on_flushed writes record_ if
//                               it is not open.
//  armed again before           record_ becomes open only in on_seal; then the sealed copy is of
//    on_flushed(g)              the same arming. Until then commits write the cut record.
//  fault during arming          Before the commit that arms is durable, record_ falls back to what
//                               it was before the arming. That commit may have reached the disk and
//                               claim [G0, ...): true, as above.
//
// Guarded by the engine's mutex. Does no I/O and knows no volume.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "replace/record.h"

namespace moltfs::replace {

class Ledger {
 public:
  Ledger() = default;
  /// At mount: `record` as it is in the superblock of generation `durable`. If its coverage is
  /// open, duplication counts as standing: the caller arms the volume or calls fault().
  Ledger(Record record, Generation durable);

  /// What is true now. While an arming is not sealed: what was true before it.
  const Record& record() const { return record_; }
  /// The record that the present work is about: that of an unsealed or failed arming, or record().
  Record& current() { return is_candidate_current() ? *candidate_ : record_; }
  const Record& current() const { return is_candidate_current() ? *candidate_ : record_; }
  /// True from begin_arming() until the first fault or close().
  bool standing() const { return phase_ != Phase::off && phase_ != Phase::arm_failed; }
  /// The coverage of the last durable record, while duplication stands and arming is done.
  const Coverage& durable_coverage() const { return durable_; }

  // ---- Arming: begin_arming(), the map is published, writes under older maps are drained,
  //      drained(), a whole commit. Then arming() is false if it succeeded.
  /// `candidate`: the record as it is to be once armed, but without the open interval.
  void begin_arming(Record candidate);
  /// The next seal fixes G0.
  void drained();
  /// True from begin_arming() until its commit is durable, give_up_arming() or close().
  bool arming() const { return candidate_.has_value(); }
  /// The arming failed: record() is what it was before. Returns the candidate. REQUIRES: arming().
  Record give_up_arming();

  // ---- The commit hook.
  void on_seal(Generation closing);
  /// The payload for the superblock.
  std::vector<std::byte> on_flushed(bool target_flushed);
  void on_durable(Generation closed);

  /// Duplication broke, or has to end although the replace does not. True the first time.
  bool fault();
  /// Duplication ends, and with it the replace: `last` is its result. REQUIRES: last's coverage is
  /// not open.
  void close(Record last);

 private:
  //  phase        candidate_   record_.coverage
  //  off          none         not open             no duplication
  //  arming       set          not open             begin_arming() was called
  //  drained      set          not open             drained() was called
  //  sealed       set          open                 G0 is fixed; no durable record says so yet
  //  armed        none         open                 a durable record says so
  //  arm_failed   set          not open             a fault in one of the three before `armed`
  enum class Phase : uint8_t { off, arming, drained, sealed, armed, arm_failed };
  bool is_candidate_current() const { return candidate_ && phase_ != Phase::sealed; }

  Phase phase_ = Phase::off;
  Record record_;
  std::optional<Record> candidate_;  // what is being armed
  Record before_arming_;             // phase sealed: what record_ falls back to

  // What the last durable record of the armed phase claims, and the last durable generation.
  Coverage durable_;
  Generation durable_generation_;

  // The commit under way.
  Record sealed_;
  bool written_open_ = false;
  Coverage written_;
};

}  // namespace moltfs::replace
