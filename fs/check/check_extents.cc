// SPDX-License-Identifier: MIT
// Checking extent records, usage and data.
#include "fs/check/check_extents.h"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "alloc/base/checksum.h"
#include "alloc/base/load.h"

namespace moltfs::fs::checking {
namespace {

constexpr uint64_t kReadAtOnce = 8 * 1024 * 1024;

ExtentClaim claim_of(const ExtentRecord& record) {
  return {record.start, record.inode, record.file_offset, record.length, record.unwritten};
}

std::string blocks_text(size_t count) {
  return count == 1 ? "the data" : fmt::format("the data of {} blocks", count);
}

}  // namespace

ExtentCheck::ExtentCheck(alloc::Volume& volume, Findings& findings, const LostKeys& lost,
                         const InodeStates& states, ExtentSums& sums, Generation newest, bool data)
    : volume_(volume),
      findings_(findings),
      lost_(lost),
      states_(states),
      sums_(sums),
      data_(data),
      guard_(volume.acquire_map()),
      newest_(newest) {
  for (const auto& chunk : guard_.map().chunks()) {
    if (chunk->kind == alloc::ChunkKind::data) used_[chunk->start] = 0;
  }
}

void ExtentCheck::item(const Item& item) {
  if (item.key.object == kUsageObject && item.key.type == kUsageType) return usage(item);
  if (item.key.type == static_cast<uint8_t>(ItemType::extent_record)) return record(item);
  findings_.add("extent tree", fmt::format("has an item {} of unknown type", describe(item.key)));
}

// ---- Records and usage

void ExtentCheck::record(const Item& item) {
  const auto decoded = decode_record(item);
  if (!decoded) {
    findings_.add("extent tree", decoded.error().message());
    return;
  }
  const ExtentRecord& record = decoded.value();
  check_place(record);
  if (record.birth > newest_) {
    findings_.add_at(record.inode, record.file_offset,
                     fmt::format("its extent was born in generation {}, after the volume's {}",
                                 record.birth.value, newest_.value));
  }
  sums_.add_record(claim_of(record));
  if (record.unwritten) return;
  bytes_done_ += record.length;
  if (data_) read_later(record);
}

void ExtentCheck::check_place(const ExtentRecord& record) {
  if (record.start < end_of_last_) {
    findings_.add_at(
        record.inode, record.file_offset,
        fmt::format("its extent at address {} overlaps another one", record.start.value));
  }
  end_of_last_ = std::max(end_of_last_, record.end());
  const alloc::Chunk* chunk = guard_.map().chunk_of({record.start, record.length});
  if (chunk == nullptr || chunk->kind != alloc::ChunkKind::data) {
    findings_.add_at(
        record.inode, record.file_offset,
        fmt::format("its extent at address {} is not inside a data chunk", record.start.value));
    return;
  }
  used_[chunk->start] += record.length;
  if (record.birth < chunk->birth) {
    findings_.add_at(record.inode, record.file_offset,
                     fmt::format("its extent was born in generation {}, before its chunk in {}",
                                 record.birth.value, chunk->birth.value));
  }
}

void ExtentCheck::usage(const Item& item) {
  const LogicalOffset chunk{item.key.offset};
  const auto usage = load_exactly<ChunkUsageOnDisk>(item.value);
  if (!usage) {
    findings_.add("extent tree",
                  fmt::format("the usage record of chunk {} has a wrong size", chunk.value));
  } else if (used_.count(chunk) == 0) {
    findings_.add("extent tree",
                  fmt::format("has a usage record of {}, which is not a data chunk", chunk.value));
  } else {
    recorded_used_[chunk] = usage->used_bytes;
  }
}

void ExtentCheck::end() {
  read_pending();
  for (const auto& [chunk, used] : used_) {
    const uint64_t recorded = recorded_used_[chunk];
    if (recorded == used || lost_.may_hold(TreeId::extent, usage_key(chunk))) continue;
    const alloc::Chunk* whole = alloc::find_chunk(guard_.map().chunks(), chunk);
    const LogicalOffset last = whole->range().end() - 1;
    if (lost_.may_hold(TreeId::extent, record_key(chunk), record_key(last))) continue;
    findings_.add(
        fmt::format("chunk {}", chunk.value),
        fmt::format("its usage record says {} bytes, its extents have {}", recorded, used));
  }
}

// ---- Data

void ExtentCheck::read_later(const ExtentRecord& record) {
  Pending pending;
  pending.start = record.start;
  pending.ino = record.inode;
  pending.file_offset = record.file_offset;
  for (uint64_t block = 0; block < record.length / kBlockSize; ++block) {
    pending.checksums.push_back(record.checksum(block));
  }
  pending.buffer = AlignedBuffer(record.length);
  pending_bytes_ += record.length;
  pending_.push_back(std::move(pending));
  if (pending_bytes_ >= kReadAtOnce) read_pending();
}

void ExtentCheck::read_pending() {
  unsigned copies = 0;
  for (const Pending& pending : pending_) {
    copies = std::max(copies, volume_.copies_at(guard_, pending.start));
  }
  for (unsigned copy = 0; copy < copies; ++copy) {
    std::vector<alloc::LogicalRead> reads;
    std::vector<Pending*> whose;
    for (Pending& pending : pending_) {
      reads.push_back({pending.start, pending.buffer.span()});
      whose.push_back(&pending);
    }
    volume_.read_batch(guard_, reads, copy);
    for (size_t i = 0; i < reads.size(); ++i) verify(*whose[i], reads[i], copy);
  }
  pending_.clear();
  pending_bytes_ = 0;
}

/// Consecutive blocks with the same fault make one finding.
void ExtentCheck::verify(Pending& pending, const alloc::LogicalRead& read, unsigned copy) {
  size_t first = 0;
  Fault fault = Fault::none;
  Fault last = Fault::none;
  const size_t count = pending.checksums.size();
  for (size_t i = 0; i <= count; ++i) {
    const Fault now =
        i == count ? Fault::none : verify_block(pending, i, read.result.has_value(), copy);
    if (i < count && now == Fault::none) bytes_verified_ += kBlockSize;
    if (i < count) last = now;
    if (now == fault && i < count) continue;
    if (fault != Fault::none && fault != Fault::absent) {
      report(pending, first, i - first, fault, copy);
    }
    first = i;
    fault = now;
  }
  if (last != Fault::absent && !std::exchange(pending.tail_is_checked, true)) check_tail(pending);
}

ExtentCheck::Fault ExtentCheck::verify_block(Pending& pending, size_t index, bool all_read,
                                             unsigned copy) {
  const Bytes block = pending.buffer.span().subspan(index * kBlockSize, kBlockSize);
  const LogicalOffset at = pending.start + index * kBlockSize;
  if (!guard_.map().has_copy(at, copy)) return Fault::absent;
  if (!all_read && !volume_.read(guard_, at, block, copy).has_value()) return Fault::unreadable;
  return checksum_of(block) == pending.checksums[index] ? Fault::none : Fault::mismatch;
}

void ExtentCheck::report(const Pending& pending, size_t first, size_t count, Fault fault,
                         unsigned copy) {
  const auto place = place_of(guard_.map(), pending.start + first * kBlockSize, copy);
  const std::string what = fault == Fault::unreadable ? "cannot be read"
                           : count == 1               ? "does not match its checksum"
                                                      : "does not match its checksums";
  findings_.add_at(pending.ino, pending.file_offset + first * kBlockSize,
                   fmt::format("{} {} ({})", blocks_text(count), what,
                               describe(place.value_or(CopyPlace{}), volume_)));
}

/// E3: the bytes of the last block after the end of the file are zero. A block that does not match
/// its checksum has been reported already.
void ExtentCheck::check_tail(const Pending& pending) {
  const InodeState* state = states_.find(pending.ino);
  if (state == nullptr || state->type != DT_REG || state->is_doomed || state->is_being_cut) return;
  const uint64_t size = state->size, end = pending.file_offset + pending.buffer.size();
  const uint64_t block = round_down(size, kBlockSize);
  if (size == block || block < pending.file_offset || block >= end) return;
  const ConstBytes bytes = pending.buffer.span().subspan(block - pending.file_offset, kBlockSize);
  if (checksum_of(bytes) != pending.checksums[(block - pending.file_offset) / kBlockSize]) return;
  const ConstBytes tail = bytes.subspan(size - block);
  if (std::any_of(tail.begin(), tail.end(), [](std::byte b) { return b != std::byte{0}; })) {
    findings_.add_at(pending.ino, size, "the bytes after the end of the file are not zero");
  }
}

// ---- File extents against records

void ExtentMatch::fs_item(const Item& item) {
  if (item.key.type != static_cast<uint8_t>(ItemType::extent)) return;
  const auto decoded = decode_file_extent(item);
  if (!decoded) return;
  const Extent& extent = decoded.value();
  const ExtentClaim claim{extent.logical, InodeNumber{item.key.object}, extent.file_offset,
                          extent.length, extent.unwritten};
  if (sums_.differs(claim)) file_extents_.emplace(claim.logical, claim);
}

void ExtentMatch::extent_item(const Item& item) {
  if (item.key.type != static_cast<uint8_t>(ItemType::extent_record)) return;
  const auto decoded = decode_record(item);
  if (!decoded) return;
  const ExtentClaim claim = claim_of(decoded.value());
  if (sums_.differs(claim)) records_.emplace(claim.logical, claim);
}

void ExtentMatch::compare() {
  for (const auto& [logical, claim] : file_extents_) {
    const auto record = records_.find(logical);
    if (record != records_.end() && record->second == claim) continue;
    if (record == records_.end()) {
      if (lost_.may_hold(TreeId::extent, record_key(logical))) continue;
      findings_.add_at(claim.ino, claim.file_offset,
                       fmt::format("its extent at address {} has no record", logical.value));
      continue;
    }
    const ExtentClaim& other = record->second;
    const bool other_owner = other.ino != claim.ino || other.file_offset != claim.file_offset;
    findings_.add_at(
        claim.ino, claim.file_offset,
        other_owner ? fmt::format("the record of its extent at address {} names inode {} at {}",
                                  logical.value, other.ino.value, other.file_offset)
                    : fmt::format("its extent at address {} ({} bytes{}) and its record ({} "
                                  "bytes{}) differ",
                                  logical.value, claim.length, claim.unwritten ? ", unwritten" : "",
                                  other.length, other.unwritten ? ", unwritten" : ""));
  }
  for (const auto& [logical, claim] : records_) {
    const auto [first, last] = file_extents_.equal_range(logical);
    const auto is_its = [&of_record = claim](const auto& entry) {
      return entry.second.ino == of_record.ino && entry.second.file_offset == of_record.file_offset;
    };
    if (std::any_of(first, last, is_its)) continue;
    if (lost_.may_hold(TreeId::fs, extent_key(claim.ino, claim.file_offset))) continue;
    findings_.add_at(claim.ino, claim.file_offset,
                     fmt::format("the file has no extent there, but the record at address {} names "
                                 "it",
                                 logical.value));
  }
}

}  // namespace moltfs::fs::checking
