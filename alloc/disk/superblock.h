// SPDX-License-Identifier: MIT
// The superblock: the one structure whose write commits everything. Two copies on each device,
// written one after the other: copy 0, flush, copy 1. So at any instant one of them is whole.
// On-disk form: alloc/disk/format.h and FORMAT.md.
//
// Which copy of a device counts: of two valid ones the newer generation; copy 0 if both have the
// same, and also if they belong to different volumes or carry different device uuids (copy 0 is
// written first, so copy 1 is then a left-over of an earlier life of the device).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"
#include "alloc/base/uuid.h"
#include "alloc/device/device.h"
#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

// Where things lie on each device. The first 64 KiB are never touched (boot code, disk labels).
inline constexpr uint64_t kSuperblockOffsets[2] = {64 * 1024, 3 * 1024 * 1024};
inline constexpr uint64_t kSuperblockMaxBytes = 64 * 1024;
inline constexpr uint64_t kChunkTableOffsets[2] = {1024 * 1024, 2 * 1024 * 1024};
inline constexpr uint64_t kChunkTableMaxBytes = 1024 * 1024;
inline constexpr uint64_t kFirstChunkOffset = 4 * 1024 * 1024;
inline constexpr uint64_t kMinDeviceBytes = 16 * 1024 * 1024;
inline constexpr uint64_t kMinVolumeBytes = 64 * 1024 * 1024;
inline constexpr uint64_t kMinChunkSize = 1024 * 1024;
inline constexpr uint64_t kMaxChunkSize = uint64_t{1} << 40;
inline constexpr uint64_t kFirstLogical = 1024 * 1024;      ///< address 0 is nobody's
inline constexpr uint64_t kMaxLogical = uint64_t{1} << 62;  ///< end of the logical address space
inline constexpr size_t kMaxDevices = 64;
inline constexpr size_t kMaxLabelBytes = 255;
inline constexpr size_t kMaxPathBytes = 512;  ///< recorded paths; longer ones are recorded empty

enum class DeviceRole : uint8_t {
  member = 1,
  target = 2,    ///< unfinished target of a replace: holds nothing that may be mounted
  replaced = 3,  ///< was a member; `successor` says by whom it was replaced
};

struct DeviceEntry {
  DeviceId devid;
  Uuid uuid;
  uint64_t size_bytes = 0;
  std::string path;  ///< last known
  bool operator==(const DeviceEntry&) const = default;
};

struct ChunkTableRef {
  uint8_t slot = 0;
  uint32_t length = 0;
  uint64_t checksum = 0;
  Generation generation;  ///< of the commit that wrote it
  bool operator==(const ChunkTableRef&) const = default;
};

struct Superblock {
  Uuid volume;
  Generation generation;
  uint64_t incompatible_features = 0;  ///< any unknown bit: refuse
  uint64_t compatible_features = 0;
  uint64_t log_id = 0;  ///< names the fsync log's chain on this superblock; 0: there is none
  std::string label;
  uint64_t chunk_size = 0;
  Profile data_profile = Profile::single, metadata_profile = Profile::dup;  ///< of new chunks
  LogicalOffset next_logical;
  ChunkTableRef chunk_table;
  std::vector<DeviceEntry> devices;
  /// What fs and replace keep here; opaque to alloc. At most 1 KiB and 24 KiB.
  std::vector<std::byte> fs_payload;
  std::vector<std::byte> replace_payload;
  /// Set in the commit before a swap: whoever opens the volume must look at this device first, for
  /// it may be the member already.
  struct Succession {
    DeviceId devid;
    Uuid uuid;
    std::string path;
    bool operator==(const Succession&) const = default;
  };
  std::optional<Succession> pending_swap;
  /// Set by the commit that swaps, cleared by the next one: the device that was replaced. If it
  /// has a member superblock of the same or a newer generation, the swap had failed and that one
  /// counts; whoever opens the volume by its new device must look at the old one, if it is there.
  std::optional<Succession> predecessor;

  // Of the device that this copy lies on.
  DeviceRole role = DeviceRole::member;
  DeviceId devid;
  Uuid device;
  std::optional<Succession> successor;  ///< role replaced: by whom

  bool operator==(const Superblock&) const = default;
};

/// What does not hold in `superblock`. Errors: bad_superblock, unsupported_feature.
Result<void> validate(const Superblock& superblock);
/// Encoded form of copy `copy` (0 or 1), padded to a multiple of kBlockSize. Error:
/// invalid_argument if it does not validate (the detail says which field).
Result<AlignedBuffer> encode(const Superblock& superblock, unsigned copy = 0);
/// Checks magic, checksum, version, features and every field. Errors: not_found if there is no
/// magic of ours, bad_superblock (the detail says which field), unsupported_feature.
Result<Superblock> decode_superblock(ConstBytes bytes, unsigned copy = 0);
/// Bytes of the superblock that begins with this block, as far as it can be believed before its
/// checksum is known: a multiple of kBlockSize, at most kSuperblockMaxBytes.
uint64_t encoded_length(ConstBytes first_block);
/// `path` as it can be recorded in a superblock: empty if it is too long.
std::string recordable_path(const std::string& path);
std::string describe(const Superblock& superblock);

/// What stands at the place of one copy (0 or 1). Errors: those of decode_superblock, io_error.
Result<Superblock> read_superblock_copy(IoEngine& engine, Device& device, unsigned copy);
/// The copy that counts. Errors: not_found if neither copy has our magic, bad_superblock with a
/// sentence if there is magic but no valid copy, unsupported_feature, io_error.
Result<Superblock> read_superblock(IoEngine& engine, Device& device);
/// Copy 0, flush, copy 1 (durable with the next flush). The device's own fields must be set.
Result<void> write_superblock(IoEngine& engine, Device& device, const Superblock& superblock);
/// Flushes, then reads both copies back. Error: checksum_mismatch if one is not what
/// write_superblock(superblock) writes.
Result<void> verify_superblock(IoEngine& engine, Device& device, const Superblock& superblock);
/// Overwrites both copies with zeros, durably; copy 1 first: it may be older, and must not remain.
Result<void> wipe_superblocks(IoEngine& engine, Device& device);

}  // namespace moltfs::alloc
