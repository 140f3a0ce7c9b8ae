// SPDX-License-Identifier: MIT
// Reading whole blocks: look up extents and checksums under the lock, read without it, verify.
//
// A block whose first copy cannot be read or does not match its checksum:
//   the record has changed -> a race with a writer: look up again;
//   another copy is good   -> take it, and write it over the bad ones: under a freeze, so that the
//                             place cannot get another owner, and only if the record still stands;
//   none is good           -> io_error.
#include "fs/content/blocks.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/checksum.h"
#include "alloc/base/log.h"
#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

using alloc::MapGuard;

constexpr size_t kExtentsPerLookup = 64;
constexpr int kMaxLookups = 8;
constexpr std::string_view kMismatch = "does not match its checksum";

/// Part of a written extent, and where its bytes go.
struct Part {
  Extent extent;
  Bytes into;

  Bytes block(size_t i) const { return into.subspan(i * kBlockSize, kBlockSize); }
  bool is_good(size_t i) const { return checksum_of(block(i)) == extent.checksums[i]; }
};

/// One block that has to be had from another copy.
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

  Result<void> read(uint64_t offset, Bytes into);

 private:
  struct Found {
    std::vector<Extent> extents;
    uint64_t end = 0;  ///< how far the lookup came
  };
  Result<Found> look_up(uint64_t offset, uint64_t end);
  std::vector<Part> place(const Found& found, uint64_t offset, Bytes into);
  Result<bool> fill(std::vector<Part>& parts);
  Result<bool> mend(const BadBlock& block);
  Result<bool> stands(const BadBlock& block);
  bool read_copy(const MapGuard& guard, const BadBlock& block, unsigned copy);
  void note_bad(const MapGuard& guard, const BadBlock& block, unsigned copy, std::string_view what);
  void repair(const BadBlock& block, const std::vector<unsigned>& copies);

  FilesystemContext& context_;
  alloc::Volume& volume_;
  const InodeNumber ino_;
};

Result<void> BlockReader::read(uint64_t offset, Bytes into) {
  int lookups = 0;
  while (!into.empty()) {
    TRY(auto found, look_up(offset, offset + into.size()));
    const Bytes now = into.first(found.end - offset);
    auto parts = place(found, offset, now);
    TRY(bool filled, fill(parts));
    if (!filled) {
      if (++lookups == kMaxLookups) return Error(Errc::io_error);
      continue;
    }
    lookups = 0;
    offset += now.size();
    into = into.subspan(now.size());
  }
  return ok();
}

Result<BlockReader::Found> BlockReader::look_up(uint64_t offset, uint64_t end) {
  return context_.transactions.read([&](Access& access) -> Result<Found> {
    Found found;
    TRY(auto extents, extents_in(access, context_.fs_tree(), ino_, offset, end, kExtentsPerLookup));
    found.end = extents.size() < kExtentsPerLookup ? end : std::min(end, extents.back().file_end());
    for (const Extent& extent : extents) {
      if (extent.unwritten) continue;
      TRY(auto part, with_record(access, context_.extent_tree(), ino_, extent, offset, end));
      found.extents.push_back(std::move(part));
    }
    return found;
  });
}

/// What is to be read; zeros everything else.
std::vector<Part> BlockReader::place(const Found& found, uint64_t offset, Bytes into) {
  std::vector<Part> parts;
  uint64_t reached = offset;
  for (const Extent& extent : found.extents) {
    std::memset(into.data() + (reached - offset), 0, extent.file_offset - reached);
    parts.push_back({extent, into.subspan(extent.file_offset - offset, extent.length)});
    reached = extent.file_end();
  }
  std::memset(into.data() + (reached - offset), 0, offset + into.size() - reached);
  return parts;
}

/// False: the extents have changed, look up again.
Result<bool> BlockReader::fill(std::vector<Part>& parts) {
  if (parts.empty()) return true;
  std::vector<alloc::LogicalRead> reads;
  reads.reserve(parts.size());
  for (const Part& part : parts) reads.push_back({part.extent.logical, part.into});
  {
    const MapGuard guard = volume_.acquire_map();
    volume_.read_batch(guard, reads, 0);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    for (size_t block = 0; block < part.extent.checksums.size(); ++block) {
      if (reads[i].result && part.is_good(block)) continue;
      const uint64_t skipped = block * kBlockSize;
      TRY(bool mended, mend({part.extent.logical + skipped, part.extent.file_offset + skipped,
                             part.extent.birth, part.extent.checksums[block], part.block(block)}));
      if (!mended) return false;
    }
  }
  return true;
}

/// Gets the block from whichever copy is good. False: its record has changed.
Result<bool> BlockReader::mend(const BadBlock& block) {
  TRY(bool current, stands(block));
  if (!current) return false;
  std::vector<unsigned> bad;
  bool good = false;
  {
    const MapGuard guard = volume_.acquire_map();
    const unsigned copies = volume_.copies_at(guard, block.at);
    for (unsigned copy = 0; copy < copies && !good; ++copy) {
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

/// True if the running tree still has these bytes at this place.
Result<bool> BlockReader::stands(const BadBlock& block) {
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

/// Best effort: what cannot be repaired stays bad, and was logged.
void BlockReader::repair(const BadBlock& block, const std::vector<unsigned>& copies) {
  if (volume_.read_only() || context_.options.read_only) return;
  const alloc::Freeze freeze = volume_.space().freeze({block.at, kBlockSize});
  const MapGuard guard = volume_.acquire_map();
  const auto current = stands(block);
  if (!current || !current.value()) return;
  for (unsigned copy : copies) {
    const auto result = volume_.repair(guard, block.at, block.into, copy);
    log_warning("inode {} at {}: copy {} {}", ino_.value, block.file_offset, copy,
                result ? "repaired" : "not repaired: " + result.error().message());
  }
}

}  // namespace

Result<void> read_blocks(FilesystemContext& context, InodeNumber ino, uint64_t offset, Bytes into) {
  return BlockReader(context, ino).read(offset, into);
}

}  // namespace moltfs::fs
