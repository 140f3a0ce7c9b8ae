// SPDX-License-Identifier: MIT
// The chunk table: all chunks and stripes as one blob with a checksum. Each device has two slots
// for it, used alternately. The superblock says slot, length, generation and checksum of the table
// that counts. On-disk format: alloc/disk/format.h and FORMAT.md.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk.h"
#include "alloc/disk/superblock.h"

namespace moltfs::alloc {

/// Limits for the chunks of a table. The superblock holds them.
struct ChunkTableLimits {
  const std::vector<DeviceEntry>& devices;
  LogicalOffset next_logical;  ///< no chunk ends after it
  Generation generation;       ///< no birth is later
};

/// Checks every field, the order of chunks, that they fit their profiles, and that stripes lie
/// inside their devices and do not overlap. Error: bad_chunk_table; the detail names the chunk and
/// the field.
Result<void> validate_chunks(const ChunkList& chunks, const ChunkTableLimits& limits);

/// The blob, without padding. Error: bad_chunk_table if the chunks are not valid or need more than
/// kChunkTableMaxBytes.
Result<std::vector<std::byte>> encode_chunk_table(const ChunkList& chunks, const Uuid& volume,
                                                  const ChunkTableLimits& limits);

/// `bytes` begins with the blob; bytes after it are ignored. Error: bad_chunk_table.
Result<ChunkList> decode_chunk_table(ConstBytes bytes, const Uuid& volume,
                                     const ChunkTableLimits& limits);

/// All chunks and stripes, one on each line.
std::string describe(const ChunkList& chunks);

/// Reads the table that `superblock` names from `device` and decodes it. `devices` has the sizes to
/// check stripes against. Errors: bad_chunk_table, checksum_mismatch, io_error.
Result<ChunkList> read_chunk_table(IoEngine& engine, Device& device, const Superblock& superblock,
                                   const std::vector<DeviceEntry>& devices);

}  // namespace moltfs::alloc
