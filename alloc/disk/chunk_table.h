// SPDX-License-Identifier: MIT
// The chunk table: all chunks and stripes as one checksummed blob, in two alternating slots on each
// device. The superblock names slot, length, generation and checksum of the one that counts.
// On-disk form: alloc/disk/format.h and FORMAT.md.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

/// What the chunks must fit: kept in the superblock beside the table.
struct ChunkTableLimits {
  const std::vector<DeviceEntry>& devices;
  LogicalOffset next_logical;  ///< no chunk reaches beyond
  Generation generation;       ///< nothing is born later
};

/// What does not hold in `chunks`: order, overlaps, profile against stripes, stripes outside their
/// device or upon each other. Error: bad_chunk_table (the detail names the chunk and the field).
Result<void> validate_chunks(const ChunkList& chunks, const ChunkTableLimits& limits);

/// The blob, without padding. Errors: bad_chunk_table if it does not validate or is longer than
/// kChunkTableMaxBytes.
Result<std::vector<std::byte>> encode_chunk_table(const ChunkList& chunks, const Uuid& volume,
                                                  const ChunkTableLimits& limits);

/// `bytes` begins with the blob; what follows it is ignored. Error: bad_chunk_table.
Result<ChunkList> decode_chunk_table(ConstBytes bytes, const Uuid& volume,
                                     const ChunkTableLimits& limits);

std::string describe(const ChunkList& chunks);

/// Reads the table that `superblock` names from `device` and decodes it. `devices`: the device
/// table with the sizes to check against. Errors: bad_chunk_table, checksum_mismatch, io_error.
Result<ChunkList> read_chunk_table(IoEngine& engine, Device& device, const Superblock& superblock,
                                   const std::vector<DeviceEntry>& devices);

}  // namespace moltfs::alloc
