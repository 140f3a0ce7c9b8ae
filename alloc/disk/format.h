// SPDX-License-Identifier: MIT
// On-disk structs of the volume: superblock, chunk table and batches of the fsync log. FORMAT.md
// says the same in words.
//
// Everything is little-endian and without padding (Boost.Endian types have alignment 1). Reserved
// bytes are zero and checked. Variable-length parts follow the fixed ones; alloc/base/codec.h reads
// and writes them.
#pragma once

#include <array>
#include <boost/endian/arithmetic.hpp>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "alloc/base/strong_types.h"

namespace moltfs::alloc::format {

using u8 = uint8_t;
using u16 = boost::endian::little_uint16_t;
using u32 = boost::endian::little_uint32_t;
using u64 = boost::endian::little_uint64_t;
using UuidBytes = std::array<uint8_t, 16>;
using Magic = std::array<char, 8>;

/// The last byte changes if the checksum is found or computed in another way.
inline constexpr Magic kSuperblockMagic = {'M', 'O', 'L', 'T', 'F', 'S', '\0', '\1'};
inline constexpr Magic kChunkTableMagic = {'M', 'O', 'L', 'T', 'C', 'H', 'N', 'K'};
inline constexpr Magic kLogBatchMagic = {'M', 'O', 'L', 'T', 'F', 'L', 'O', 'G'};
inline constexpr uint16_t kSuperblockVersion = 1;
inline constexpr uint16_t kChunkTableVersion = 1;
inline constexpr uint16_t kLogBatchVersion = 1;

// Incompatible features: a program must know all that are set.
inline constexpr uint64_t kFeatureFsyncLog = 1;    ///< the volume may have an fsync log
inline constexpr uint64_t kFeatureDevicesOut = 2;  ///< set exactly while a device is out
inline constexpr uint64_t kFeatureManyCopies = 4;  ///< chunks may have more than two copies
inline constexpr uint64_t kKnownIncompatible =
    kFeatureFsyncLog | kFeatureDevicesOut | kFeatureManyCopies;

// Compatible features: a program may ignore them.
/// On a device with the role "replaced": it has blocks that its successor lacks.
inline constexpr uint64_t kFeatureHasLostBlocks = 1;
/// On a device with the role "target": each commit under duplication writes its generation into
/// this superblock, before the flush that precedes the members' superblocks.
inline constexpr uint64_t kFeatureTargetFollows = 2;

inline constexpr size_t kMaxFsPayload = 1024;
inline constexpr size_t kMaxReplacePayload = 24 * 1024;

// Bits for the optional parts of the superblock's body.
inline constexpr uint8_t kHasPendingSwap = 1;
inline constexpr uint8_t kHasPredecessor = 2;
inline constexpr uint8_t kHasSuccessor = 4;
inline constexpr uint8_t kHasDevicesOut = 8;

struct SuperblockHeader {
  Magic magic;
  u64 checksum;  ///< XXH3-64 of all `length` bytes, computed with this field as zero
  u32 length;    ///< total, with padding: a multiple of 4096
  u16 version;
  u8 copy;  ///< index in kSuperblockOffsets
  u8 role;  ///< DeviceRole of the device that holds this superblock
  UuidBytes volume;
  UuidBytes device;  ///< uuid of the device that holds this superblock
  u64 devid;         ///< devid of that device
  u64 generation;
  u64 incompatible_features;
  u64 compatible_features;
  u64 chunk_size;
  u64 next_logical;
  u64 table_checksum;
  u64 table_generation;
  u32 table_length;
  u8 table_slot;
  u8 optional_parts;  ///< kHas...
  u16 device_count;
  u32 body_length;  ///< bytes of the body; zeros follow it up to `length`
  u8 data_profile;
  u8 metadata_profile;
  u64 log_id;  ///< not 0 if the feature kFeatureFsyncLog is set, else 0
  std::array<u8, 114> reserved;
};
static_assert(std::is_trivially_copyable_v<SuperblockHeader>);
static_assert(alignof(SuperblockHeader) == 1);
static_assert(sizeof(SuperblockHeader) == 256);
static_assert(offsetof(SuperblockHeader, checksum) == 8);
static_assert(offsetof(SuperblockHeader, volume) == 24);
static_assert(offsetof(SuperblockHeader, devid) == 56);
static_assert(offsetof(SuperblockHeader, next_logical) == 96);
static_assert(offsetof(SuperblockHeader, table_slot) == 124);
static_assert(offsetof(SuperblockHeader, body_length) == 128);
static_assert(offsetof(SuperblockHeader, log_id) == 134);
static_assert(offsetof(SuperblockHeader, reserved) == 142);

struct ChunkTableHeader {
  Magic magic;
  u64 checksum;  ///< XXH3-64 of all `length` bytes, computed with this field as zero
  UuidBytes volume;
  u64 generation;  ///< of the commit that wrote it
  u32 length;      ///< total, without padding
  u32 chunk_count;
  u16 version;
  std::array<u8, 14> reserved;
};
static_assert(std::is_trivially_copyable_v<ChunkTableHeader>);
static_assert(alignof(ChunkTableHeader) == 1);
static_assert(sizeof(ChunkTableHeader) == 64);
static_assert(offsetof(ChunkTableHeader, generation) == 32);

/// Followed by `stripe_count` StripeRecords.
struct ChunkRecord {
  u64 start;
  u64 length;
  u64 birth;
  u32 stripe_unit;
  u8 kind;
  u8 profile;
  u16 copies;
  u16 stripe_count;
  std::array<u8, 6> reserved;
};
static_assert(alignof(ChunkRecord) == 1);
static_assert(sizeof(ChunkRecord) == 40);

struct StripeRecord {
  u64 offset;
  u64 birth;
  u32 devid;
  std::array<u8, 4> reserved;
};
static_assert(alignof(StripeRecord) == 1);
static_assert(sizeof(StripeRecord) == 24);

/// The header of a batch of the fsync log. After it come a chunk table blob with the new data
/// chunks (or nothing), the payload, and zeros up to `length`.
struct LogBatchHeader {
  Magic magic;
  u64 checksum;  ///< XXH3-64 of all `length` bytes, computed with this field as zero
  UuidBytes volume;
  u64 generation;  ///< of the superblock that the chain belongs to
  u64 log_id;      ///< of that superblock
  u64 previous;    ///< checksum of the batch before; 0 in the first
  u64 running;     ///< the generation in which the batch was written
  u32 sequence;    ///< 0, 1, 2, ...
  u32 length;      ///< total, with padding: a multiple of 4096
  u32 chunks_length;
  u32 payload_length;
  u16 version;
  u8 flags;  ///< kLogDataFlushed
  std::array<u8, 13> reserved;
};
static_assert(std::is_trivially_copyable_v<LogBatchHeader>);
static_assert(alignof(LogBatchHeader) == 1);
static_assert(sizeof(LogBatchHeader) == 96);
static_assert(offsetof(LogBatchHeader, generation) == 32);
static_assert(offsetof(LogBatchHeader, sequence) == 64);
static_assert(offsetof(LogBatchHeader, flags) == 82);

/// Flag: the data that the batch names was flushed before the batch was written.
inline constexpr uint8_t kLogDataFlushed = 1;

template <size_t n>
bool all_zero(const std::array<u8, n>& bytes) {
  for (u8 b : bytes) {
    if (b != 0) return false;
  }
  return true;
}

}  // namespace moltfs::alloc::format
