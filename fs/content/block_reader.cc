// SPDX-License-Identifier: MIT
// Reading whole blocks: load extents and checksums under the lock, read without it, verify.
//
// If the first copy of a block cannot be read or does not match its checksum:
//   the record has changed -> a race with a writer: load the extents again;
//   another copy is good   -> use it and overwrite the bad copies with it: under a freeze, so that
//                             the place cannot get another owner, and only if the record has
//                             not changed;
//   no copy is good        -> io_error.
#include "fs/content/blocks.h"

#include <cstring>
#include <utility>

#include "alloc/base/checksum.h"
#include "alloc/base/log.h"
#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

using alloc::MapGuard;

constexpr int kMaxAttempts = 8;
constexpr std::string_view kMismatch = "does not match its checksum";

/// An extent to be read, and where its bytes go.
struct ExtentRead {
  const Extent& extent;
  Bytes into;

  Bytes block(size_t i) const { return into.subspan(i * kBlockSize, kBlockSize); }
  bool is_good(size_t i) const { return checksum_of(block(i)) == extent.checksums[i]; }
};

/// A block whose first copy is bad.
struct BadBlock {
  LogicalOffset at;
  uint64_t file_offset = 0;
  Generation birth;
  uint64_t checksum = 0;
  Bytes into;
};

class BlockReader {
 public:
  BlockReader(FilesystemContext& context, InodeNumber ino)
      : context_(context), volume_(context.transactions.volume()), ino_(ino) {}

  Result<void> read(uint64_t offset, Bytes into, StoredExtents known);

 private:
  Result<StoredExtents> load(FileRange range);
  std::vector<ExtentRead> plan_reads(const StoredExtents& stored, Bytes into);
  Result<bool> fill(const std::vector<ExtentRead>& extents);
  Result<bool> mend(const BadBlock& block);
  Result<bool> is_current(const BadBlock& block);
  bool read_copy(const MapGuard& guard, const BadBlock& block, unsigned copy);
  void note_bad(const MapGuard& guard, const BadBlock& block, unsigned copy, std::string_view what);
  void repair(const BadBlock& block, const std::vector<unsigned>& copies);

  FilesystemContext& context_;
  alloc::Volume& volume_;
  const InodeNumber ino_;
};

Result<void> BlockReader::read(uint64_t offset, Bytes into, StoredExtents known) {
  int attempts = 0;
  bool is_known = known.range.first == offset && known.range.end > offset &&
                  known.range.end - offset <= into.size();
  while (!into.empty()) {
    if (!std::exchange(is_known, false)) {
      TRY(known, load({offset, offset + into.size()}));
    }
    const Bytes now = into.first(known.range.end - offset);
    TRY(const bool filled, fill(plan_reads(known, now)));
    if (!filled) {
      if (++attempts == kMaxAttempts) return Error(Errc::io_error);
      continue;
    }
    attempts = 0;
    offset += now.size();
    into = into.subspan(now.size());
  }
  return ok();
}

Result<StoredExtents> BlockReader::load(FileRange range) {
  return context_.transactions.read(
      [&](Access& access) { return load_stored(access, context_, ino_, range); });
}

/// What is to be read into `into`, which is for all of stored.range. Zeros everything else.
std::vector<ExtentRead> BlockReader::plan_reads(const StoredExtents& stored, Bytes into) {
  std::vector<ExtentRead> reads;
  const uint64_t offset = stored.range.first;
  uint64_t reached = offset;
  for (const Extent& extent : stored.extents) {
    std::memset(into.data() + (reached - offset), 0, extent.file_offset - reached);
    reads.push_back({extent, into.subspan(extent.file_offset - offset, extent.length)});
    reached = extent.file_end();
  }
  std::memset(into.data() + (reached - offset), 0, offset + into.size() - reached);
  return reads;
}

/// Reads and verifies. False: the extents have changed, load them again.
Result<bool> BlockReader::fill(const std::vector<ExtentRead>& extents) {
  if (extents.empty()) return true;
  std::vector<alloc::LogicalRead> reads;
  reads.reserve(extents.size());
  for (const ExtentRead& read : extents) reads.push_back({read.extent.logical, read.into});
  {
    const MapGuard guard = volume_.acquire_map();
    volume_.read_batch(guard, reads, alloc::Map::kAnyCopy);
  }
  for (size_t i = 0; i < extents.size(); ++i) {
    const auto& [extent, into] = extents[i];
    for (size_t block = 0; block < extent.checksums.size(); ++block) {
      if (reads[i].result && extents[i].is_good(block)) continue;
      const uint64_t skipped = block * kBlockSize;
      TRY(const bool mended,
          mend({extent.logical + skipped, extent.file_offset + skipped, extent.birth,
                extent.checksums[block], extents[i].block(block)}));
      if (!mended) return false;
    }
  }
  return true;
}

/// Reads the block from any good copy and repairs the bad ones. False: its record has changed.
Result<bool> BlockReader::mend(const BadBlock& block) {
  TRY(const bool current, is_current(block));
  if (!current) return false;
  std::vector<unsigned> bad;
  bool good = false;
  {
    const MapGuard guard = volume_.acquire_map();
    const unsigned copies = volume_.copies_at(guard, block.at);
    for (unsigned copy = 0; copy < copies && !good; ++copy) {
      if (!guard.map().has_copy(block.at, copy)) continue;
      good = read_copy(guard, block, copy);
      if (!good) bad.push_back(copy);
    }
  }
  if (!good) {
    log_error("inode {} at {}: no good copy (logical address {})", ino_.value, block.file_offset,
              block.at.value);
    return Error(Errc::io_error);
  }
  if (!bad.empty()) repair(block, bad);
  return true;
}

/// True if the running tree still records these bytes at this place.
Result<bool> BlockReader::is_current(const BadBlock& block) {
  return context_.transactions.read([&](Access& access) -> Result<bool> {
    const Key key = record_key(block.at);
    TRY(auto item, context_.extent_tree().at_or_before(access, {key.object, key.type, UINT64_MAX}));
    if (!item || item->key.type != key.type) return false;
    TRY(auto record, decode_record(*item));
    if (record.end() <= block.at || record.unwritten || record.birth != block.birth) return false;
    return record.checksum((block.at - record.start) / kBlockSize) == block.checksum;
  });
}

bool BlockReader::read_copy(const MapGuard& guard, const BadBlock& block, unsigned copy) {
  const Result<void> result = volume_.read(guard, block.at, block.into, copy);
  if (!result) {
    note_bad(guard, block, copy, "cannot be read");
    return false;
  }
  if (checksum_of(block.into) == block.checksum) return true;
  note_bad(guard, block, copy, kMismatch);
  return false;
}

void BlockReader::note_bad(const MapGuard& guard, const BadBlock& block, unsigned copy,
                           std::string_view what) {
  const auto places = guard.map().for_read({block.at, kBlockSize}, copy);
  if (!places || places.value().empty()) return;
  const alloc::Segment& place = places.value().front();
  if (what == kMismatch) ++place.device->counters().checksum_errors;
  log_warning("inode {} at {}: copy {} on devid {} at {} {}", ino_.value, block.file_offset, copy,
              place.devid.value, place.offset.value, what);
}

/// Best effort: a copy that cannot be repaired stays bad; that is logged.
void BlockReader::repair(const BadBlock& block, const std::vector<unsigned>& copies) {
  if (volume_.read_only() || context_.options.read_only) return;
  const alloc::Freeze freeze = volume_.space().freeze({block.at, kBlockSize});
  const MapGuard guard = volume_.acquire_map();
  const auto current = is_current(block);
  if (!current || !current.value()) return;
  for (unsigned copy : copies) {
    const auto result = volume_.repair(guard, block.at, block.into, copy);
    log_warning("inode {} at {}: copy {} {}", ino_.value, block.file_offset, copy,
                result ? "repaired" : "not repaired: " + result.error().message());
  }
}

}  // namespace

Result<void> read_blocks(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into,
                         StoredExtents known) {
  return BlockReader(context, ino).read(offset, into, std::move(known));
}

}  // namespace moltfs::fs
