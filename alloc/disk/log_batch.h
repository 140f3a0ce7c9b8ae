// SPDX-License-Identifier: MIT
// The fsync log: it makes what was done since the last commit durable, so that an fsync does not
// have to commit. This header has its place on the devices, the frame of its batches, and reading
// it back. What a batch contains is up to fs (fs/tree/log_content.h). On-disk format:
// alloc/disk/format.h and FORMAT.md.
//
//   superblock of generation D --+-- batch 0 <-- batch 1 <-- ... <-- batch n      a *chain* on D
//                                     one for each group of fsyncs, in the area for D's parity
//
// A batch takes the trees from the state of the batch before (or of the superblock) to their state
// at one instant, with all operations up to then. An fsync writes one batch and flushes once:
//
//   data is written, not flushed; its records go into the trees (fs/content/blocks.h)
//   -> the batch is written, not flushed -> one flush of the members -> fsync returns
//
// L1 A chain belongs to one superblock: batches carry its generation and its *log id*, a random
//    number of the mount that wrote it. So a commit empties the log at no cost, and if a generation
//    number is used again after a crash, an old chain does not come back.
// L2 A batch carries the checksum of the batch before, and is written only after the flush of that
//    batch has succeeded. So only the last batch can be torn, or name data that was never stored. A
//    torn batch is the end of the log, not an error. The last complete batch counts only if the
//    data that it names and that was born after the superblock matches the checksums in the batch,
//    or if it says that the data was flushed before. One good copy is enough; a mount that writes
//    overwrites the bad copies with it before it commits what it has replayed.
// L3 While a commit C is under way, each batch goes to two chains: to the one on D, which counts
//    until C is durable, and to the one on C, which counts from then on. So no fsync waits for a
//    commit, and no commit loses an fsync. Exception: a commit that swaps a device. The chain on C
//    would have to lie on a device that is not a member yet, so fsyncs wait for that commit.
// L4 The chains on D and on C lie in different areas, as C has the other parity. After a replay the
//    running generation is D + 3. It is later than all generations that the chain can name (D + 1,
//    D + 2) and has the other parity, too, so that the log stays complete until the commit that
//    replaces it is durable.
// L5 Nothing that a batch may name is handed out again before the next commit: from the first batch
//    that contains a transaction on, what is freed in that transaction stays pinned even if it was
//    born in it (space.h S1).
// L6 Data chunks that were made after the superblock are in the first batch that follows. Their
//    addresses begin at the superblock's `next logical`. (The log never names nodes, so metadata
//    chunks need not be in it.)
//
// Replace. The log lies on members, never on a target, and does not wait for one. What was born in
// D + 1 and D + 2 and comes back through the log may be missing on the target: an fsync does not
// flush the target, and duplication may have broken after the record in the superblock was written.
// So that record does not cover these two generations: a mount that finds batches takes them as a
// gap in the coverage (Engine::restore), and the copier copies what was born in them. Hence the log
// behaves the same in all states of a replace, and a replace need not care about the log: arming
// (before the commit that arms is durable there is no coverage to claim; after it the gap is cut
// out of it), suspension and cancel (their commits close the record), the swap (L3: the chain on
// the commit before it lies on the source and counts with the source's superblock; what it contains
// is also in the commit that swaps).
//
// What a crash leaves, at each step of an fsync:
//   before the batch is complete on the device   the chain ends before it
//   after that, before the flush is done         the batch counts if its data is there, too
//   after the flush                              the batch counts, whatever happens later
//   in a commit, before its superblock           the chain on D counts, that on C has no superblock
//   after its superblock                         the chain on C counts
//   in a replay                                  only nodes were written: the replay is repeated
//
// Limits: a batch lies on the first two members (or on the only one; on three or four of them if a
// profile has as many copies), one copy on each. A bad block in a batch ends the log there, and a
// bad block in new data named by the last batch drops that batch. What was fsynced since the last
// commit may then be lost from that point on; the mount logs that this happened.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"

namespace moltfs::alloc {

/// The areas on each device, in bytes: for chains on even generations, and on odd ones.
inline constexpr uint64_t kLogOffsets[2] = {128 * 1024, 3 * 1024 * 1024 + 64 * 1024};
inline constexpr uint64_t kLogBytes = 896 * 1024;
/// The number of members that carry the log: those with the lowest devids. As many as there are
/// copies of other things, and at least two.
inline size_t log_devices(Profile data, Profile metadata) {
  return std::max<size_t>({2, losses_survived(data) + 1, losses_survived(metadata) + 1});
}
/// L4: generations from a superblock to the transaction that replays its chain.
inline constexpr uint64_t kReplayStep = 3;

/// The superblock that a chain belongs to.
struct LogBase {
  Uuid volume;
  Generation generation;
  uint64_t id = 0;  ///< the superblock's log id
};

struct LogBatch {
  Generation running;         ///< in which it was written: base + 1 or base + 2
  bool data_flushed = false;  ///< L2: the data it names was flushed before
  ChunkList chunks;           ///< L6: those that are in no earlier batch
  std::vector<std::byte> payload;
};

struct LogWrite {
  uint64_t offset = 0;  ///< bytes, on each device that carries the log
  AlignedBuffer bytes;
};

/// Encodes the batches of one chain.
class LogChain {
 public:
  explicit LogChain(const LogBase& base) : base_(base) {}

  /// Encodes `batch` as the next one of the chain. Nothing, and the chain stays as it is, if there
  /// is no room for it or its chunks are not valid. `devices`: those that hold its chunks.
  std::optional<LogWrite> append(const LogBatch& batch, const std::vector<DeviceEntry>& devices);
  /// Bytes of the area that the chain uses.
  uint64_t used_bytes() const { return used_; }

 private:
  LogBase base_;
  uint64_t used_ = 0;
  uint32_t sequence_ = 0;
  uint64_t previous_ = 0;  // checksum of the last batch
};

struct FoundLog {
  std::vector<LogBatch> batches;
  /// Something of a chain on this superblock was found, complete or not. Then a mount that writes
  /// must commit first, so that a batch of an earlier mount is not taken for one of this mount.
  bool begun = false;
};

/// Reads the chain on `base` from the bytes of its area. Stops before the first batch that is not
/// complete or not valid. `devices`: those that may hold chunks.
FoundLog read_log(ConstBytes area, const LogBase& base, const std::vector<DeviceEntry>& devices);

}  // namespace moltfs::alloc
