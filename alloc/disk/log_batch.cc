// SPDX-License-Identifier: MIT
// Writing, reading and checking the batches of the fsync log.
#include "alloc/disk/log_batch.h"

#include <cstring>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"
#include "alloc/base/load.h"
#include "alloc/disk/format.h"

namespace moltfs::alloc {

namespace {

using format::LogBatchHeader;

ChunkTableLimits limits_of(const LogBatch& batch, const std::vector<DeviceEntry>& devices) {
  return {devices, LogicalOffset(kMaxLogical), batch.running};
}

/// XXH3-64 of a batch, computed with its checksum field as zero. Sets that field to zero.
uint64_t checksum_without_field(Bytes batch) {
  std::memset(batch.data() + offsetof(LogBatchHeader, checksum), 0, sizeof(uint64_t));
  return checksum_of(batch);
}

bool belongs_to(const LogBatchHeader& header, const LogBase& base) {
  return header.magic == format::kLogBatchMagic && header.volume == base.volume.bytes &&
         header.generation == base.generation.value && header.log_id == base.id;
}

/// Checks that the lengths fit into `room` bytes, and the fields that can have only one value.
bool has_sound_frame(const LogBatchHeader& header, uint64_t room) {
  const uint64_t length = header.length;
  const uint64_t used =
      sizeof(header) + uint64_t{header.chunks_length} + uint64_t{header.payload_length};
  return header.version == format::kLogBatchVersion && length <= room &&
         length == round_up(used, kBlockSize) && (header.flags & ~format::kLogDataFlushed) == 0 &&
         format::all_zero(header.reserved);
}

/// Decodes what follows the header. Nothing if it is not valid.
std::optional<LogBatch> read_batch(Bytes bytes, const LogBatchHeader& header, const LogBase& base,
                                   const std::vector<DeviceEntry>& devices) {
  LogBatch batch;
  batch.running = Generation(header.running);
  batch.data_flushed = (header.flags & format::kLogDataFlushed) != 0;
  if (batch.running <= base.generation || batch.running - base.generation >= kReplayStep) {
    return std::nullopt;
  }
  const ConstBytes body = bytes.subspan(sizeof(header));
  const ConstBytes payload = body.subspan(header.chunks_length, header.payload_length);
  batch.payload.assign(payload.begin(), payload.end());
  if (header.chunks_length == 0) return batch;
  auto chunks =
      decode_chunk_table(body.first(header.chunks_length), base.volume, limits_of(batch, devices));
  if (!chunks) return std::nullopt;
  batch.chunks = std::move(chunks).value();
  return batch;
}

}  // namespace

std::optional<LogWrite> LogChain::append(const LogBatch& batch,
                                         const std::vector<DeviceEntry>& devices) {
  std::vector<std::byte> chunks;
  if (!batch.chunks.empty()) {
    auto encoded = encode_chunk_table(batch.chunks, base_.volume, limits_of(batch, devices));
    if (!encoded) return std::nullopt;
    chunks = std::move(encoded).value();
  }
  LogBatchHeader header{};
  const uint64_t length =
      round_up(sizeof(header) + chunks.size() + batch.payload.size(), kBlockSize);
  if (length > kLogBytes - used_) return std::nullopt;
  header.magic = format::kLogBatchMagic;
  header.volume = base_.volume.bytes;
  header.generation = base_.generation.value;
  header.log_id = base_.id;
  header.previous = previous_;
  header.running = batch.running.value;
  header.sequence = sequence_;
  header.length = static_cast<uint32_t>(length);
  header.chunks_length = static_cast<uint32_t>(chunks.size());
  header.payload_length = static_cast<uint32_t>(batch.payload.size());
  header.version = format::kLogBatchVersion;
  header.flags = batch.data_flushed ? format::kLogDataFlushed : 0;

  LogWrite write{kLogOffsets[base_.generation.value % 2] + used_, AlignedBuffer(length)};
  store(write.bytes.span(), header);
  std::byte* at = write.bytes.data() + sizeof(header);
  if (!chunks.empty()) std::memcpy(at, chunks.data(), chunks.size());
  at += chunks.size();
  std::memcpy(at, batch.payload.data(), batch.payload.size());
  at += batch.payload.size();
  std::memset(at, 0, static_cast<size_t>(write.bytes.data() + length - at));
  header.checksum = checksum_without_field(write.bytes.span());
  store(write.bytes.span(), header);

  used_ += length;
  ++sequence_;
  previous_ = header.checksum;
  return write;
}

FoundLog read_log(ConstBytes area, const LogBase& base, const std::vector<DeviceEntry>& devices) {
  FoundLog found;
  uint64_t at = 0, previous = 0;
  while (const auto loaded = load<LogBatchHeader>(area, at)) {
    const LogBatchHeader& header = *loaded;
    if (!belongs_to(header, base)) break;
    found.begun = true;
    if (!has_sound_frame(header, area.size() - at)) break;
    if (header.previous != previous || header.sequence != found.batches.size()) break;
    std::vector<std::byte> bytes(area.begin() + static_cast<ptrdiff_t>(at),
                                 area.begin() + static_cast<ptrdiff_t>(at + header.length));
    if (checksum_without_field(bytes) != header.checksum) break;
    auto batch = read_batch(bytes, header, base, devices);
    if (!batch) break;
    found.batches.push_back(std::move(*batch));
    previous = header.checksum;
    at += header.length;
  }
  return found;
}

}  // namespace moltfs::alloc
