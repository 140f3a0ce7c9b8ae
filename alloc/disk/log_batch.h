// SPDX-License-Identifier: MIT
// The fsync log: what was done since the last commit, so that an fsync need not pay for one.
// Here: where it lies, its frame, reading it back. What a batch says is the business of fs
// (fs/tree/log_content.h). On-disk form: alloc/disk/format.h and FORMAT.md.
//
//   superblock of generation D --+-- batch 0 <-- batch 1 <-- ... <-- batch n      a *chain* on D
//                                     one for each group of fsyncs, in the area of D's parity
//
// A batch brings the trees from where the batch before (or the superblock) left them to where they
// were at one instant, all operations included. An fsync writes one batch and flushes once:
//
//   data is written (unflushed), records go into the trees      Life of a write (fs/filesystem.h)
//   -> batch is written (unflushed) -> one flush of the members -> fsync returns
//
// L1 A chain belongs to one superblock: batches name its generation and its *log id*, a random
//    number of the mount that wrote it. So a commit empties the log for free, and a generation
//    number that was used before a crash does not bring an old chain back.
// L2 A batch names the checksum of the one before, and is written after the flush of that one has
//    succeeded. So only the last batch can be torn, or refer to data that never arrived. A torn one
//    is the end of the log, no error. The last whole one counts only if the data that it names,
//    born since the superblock, matches the checksums that it holds, or it says that the data was
//    flushed before.
// L3 While a commit C is under way, each batch goes to both chains: that on D, which counts until
//    C is durable, and that on C, which counts from then on. No fsync waits for a commit, and none
//    is forgotten by one. (But for a commit that swaps: then the chain on C would have to lie on a
//    device that is no member yet, and fsyncs wait for it.)
// L4 The chains on D and on C lie in different areas: C's parity is the other one. Whoever replays
//    a chain goes on with generation D + 3: later than all that the chain tells of (D + 1, D + 2),
//    and of the other parity, too, so that the log is whole until the commit that replaces it is
//    durable.
// L5 Nothing that a batch may name is handed out again before the next commit: from the first batch
//    on that a transaction is in, what is freed in it stays pinned although it was born in it
//    (space.h S1).
// L6 Data chunks made since the superblock are in the first batch after. Their addresses begin at
//    the superblock's `next logical`. (Nodes are never in the log, so metadata chunks need not be.)
//
// Replace. The log lies on members, never on a target, and does not wait for one. What is born in
// D + 1 and D + 2 and comes back by the log may be missing on the target: an fsync does not flush
// it, and duplication may have broken since the record in the superblock. So that record does not
// speak for them: a mount that finds batches takes these two generations for a gap in the coverage
// (Engine::restore), and the copier brings over what was born in them. Hence no state of a replace
// matters to the log, and the log matters to none: arming (before the commit that arms is durable
// there is nothing to claim; after it the gap is cut out of it), suspension, cancel (their commits
// close the record), the swap (L3: the chain on the commit before it lies on the source and counts
// with the source's superblock; what it says is in the commit that swaps).
//
// What a crash leaves, at each step of an fsync:
//   before the batch is whole on the device   the chain ends before it
//   after that, before the flush is done      the batch counts if its data is there, too
//   after the flush                           the batch counts, whatever comes later
//   in a commit, before its superblock        the chain on D counts; that on C has no superblock
//   after its superblock                      the chain on C counts
//   in a replay                               nothing was written but nodes: it is done once more
//
// Limits: a batch lies on the first two members (on one, if there is but one) in one copy each. A
// bad block under it ends the log there, a bad block of new data named by the last batch drops that
// batch: what was fsynced since the last commit may then be lost from there on, and the mount says
// so.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"

namespace moltfs::alloc {

/// On each device: the area of chains on even generations, and on odd ones.
inline constexpr uint64_t kLogOffsets[2] = {128 * 1024, 3 * 1024 * 1024 + 64 * 1024};
inline constexpr uint64_t kLogBytes = 896 * 1024;
/// So many members carry the log: those of the lowest devids.
inline constexpr size_t kLogDevices = 2;
/// L4: generations from a superblock to the transaction that replays its chain.
inline constexpr uint64_t kReplayStep = 3;

/// The superblock that a chain builds on.
struct LogBase {
  Uuid volume;
  Generation generation;
  uint64_t id = 0;  ///< the superblock's log id
};

struct LogBatch {
  Generation running;         ///< when it was written: base + 1 or base + 2
  bool data_flushed = false;  ///< L2
  ChunkList chunks;           ///< L6: those not in an earlier batch
  std::vector<std::byte> payload;
};

struct LogWrite {
  uint64_t offset = 0;  ///< on each device that carries the log
  AlignedBuffer bytes;
};

/// Where the next batch of a chain goes.
class LogChain {
 public:
  explicit LogChain(const LogBase& base) : base_(base) {}

  /// The batch as it is written; the chain goes on behind it. Nothing if there is no room for it.
  /// `devices`: what its chunks lie on.
  std::optional<LogWrite> append(const LogBatch& batch, const std::vector<DeviceEntry>& devices);
  uint64_t used_bytes() const { return used_; }

 private:
  LogBase base_;
  uint64_t used_ = 0;
  uint32_t sequence_ = 0;
  uint64_t previous_ = 0;  // checksum of the last batch
};

struct FoundLog {
  std::vector<LogBatch> batches;
  /// Something was written on this superblock, be it whole or not: a mount that writes commits
  /// before anything else, lest another life's first batch be taken for one of this life.
  bool begun = false;
};

/// The chain on `base` in what stands in its area. Stops at the first batch that is not whole.
FoundLog read_log(ConstBytes area, const LogBase& base, const std::vector<DeviceEntry>& devices);

}  // namespace moltfs::alloc
