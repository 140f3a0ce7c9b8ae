// SPDX-License-Identifier: MIT
// The superblock: writing it makes a commit durable. Each device has two copies. They are written
// one after the other (copy 0, flush, copy 1), so that at any time one of them is complete.
// On-disk format: alloc/disk/format.h and FORMAT.md.
//
// Which copy on a device counts: of two valid copies the one with the newer generation. Copy 0, if
// the generations are equal, and also if the copies differ in volume or device uuid: copy 0 is
// written first, so copy 1 is then left from an earlier use of the device.
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

// The layout of each device, in bytes. The first 64 KiB are left for boot code and disk labels.
inline constexpr uint64_t kSuperblockOffsets[2] = {64 * 1024, 3 * 1024 * 1024};
inline constexpr uint64_t kSuperblockMaxBytes = 64 * 1024;
inline constexpr uint64_t kChunkTableOffsets[2] = {1024 * 1024, 2 * 1024 * 1024};
inline constexpr uint64_t kChunkTableMaxBytes = 1024 * 1024;
inline constexpr uint64_t kFirstChunkOffset = 4 * 1024 * 1024;
inline constexpr uint64_t kMinDeviceBytes = 16 * 1024 * 1024;
inline constexpr uint64_t kMinVolumeBytes = 64 * 1024 * 1024;
inline constexpr uint64_t kMinChunkSize = 1024 * 1024;
inline constexpr uint64_t kMaxChunkSize = uint64_t{1} << 40;
inline constexpr uint64_t kFirstLogical = 1024 * 1024;      ///< so that address 0 is never valid
inline constexpr uint64_t kMaxLogical = uint64_t{1} << 62;  ///< end of the logical address space
/// The longest chunks. New ones are much shorter: a chunk's length is a claim that costs nothing on
/// a sparse device, and what is kept in memory for it must not depend on such a claim.
inline constexpr uint64_t kMaxDataChunkBytes = kMaxChunkSize;
inline constexpr uint64_t kMaxMetadataChunkBytes = 1024 * 1024 * 1024;
/// Of one device, and of all devices of a volume together.
inline constexpr uint64_t kMaxVolumeBytes = uint64_t{1} << 62;
/// No generation is later. A volume is mounted for writing only if kSpareGenerations are left: more
/// than the commits of any mount, so that no commit reaches the end.
inline constexpr Generation kMaxGeneration{uint64_t{1} << 62};
inline constexpr uint64_t kSpareGenerations = uint64_t{1} << 40;
inline constexpr size_t kMaxDevices = 64;
inline constexpr size_t kMaxLabelBytes = 255;
inline constexpr size_t kMaxPathBytes = 512;  ///< recorded paths; longer ones are recorded empty

enum class DeviceRole : uint8_t {
  member = 1,
  target = 2,    ///< unfinished target of a replace: must not be mounted
  replaced = 3,  ///< was a member; `successor` says which device replaced it
};

/// What is known of a device that is out: the volume has been written without it.
struct Absence {
  /// It holds everything, at its place, that was born in this generation or earlier.
  Generation whole_until;
  uint64_t log_id = 0;       ///< of the superblock of generation `whole_until`
  uint64_t drop_log_id = 0;  ///< of the mount that went on without the device
  /// Whether the superblock `generation`, `log_id` of the device found is the one that it was left
  /// with. Else the device was put back from an older copy, or has gone on by itself.
  bool left(Generation generation, uint64_t log_id) const;
  bool operator==(const Absence&) const = default;
};

struct DeviceEntry {
  DeviceId devid;
  Uuid uuid;
  uint64_t size_bytes = 0;
  std::string path;  ///< last known
  std::optional<Absence> out =
      std::nullopt;  ///< not set: the device is in, it takes reads and writes
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
  uint64_t log_id = 0;  ///< of the fsync log's chain on this superblock; 0: there is no log
  std::string label;
  uint64_t chunk_size = 0;
  Profile data_profile = Profile::single, metadata_profile = Profile::dup;  ///< of new chunks
  LogicalOffset next_logical;
  ChunkTableRef chunk_table;
  std::vector<DeviceEntry> devices;
  /// Data of fs and of replace; alloc does not interpret it. At most 1 KiB and 24 KiB.
  std::vector<std::byte> fs_payload;
  std::vector<std::byte> replace_payload;
  /// Set in the commit before a swap. A program that opens the volume must read the superblock of
  /// this device first, as it may be the member already.
  struct Succession {
    DeviceId devid;
    Uuid uuid;
    std::string path;
    bool operator==(const Succession&) const = default;
  };
  std::optional<Succession> pending_swap;
  /// The device that was replaced. Set by the commit that swaps, cleared by the next one. If that
  /// device has a member superblock of the same or a newer generation, the swap has failed and that
  /// superblock counts. A program that opens the volume by the new device must read the old one, if
  /// it is there.
  std::optional<Succession> predecessor;

  // About the device that holds this superblock.
  DeviceRole role = DeviceRole::member;
  DeviceId devid;
  Uuid device;
  std::optional<Succession> successor;  ///< if the role is replaced: by which device

  bool operator==(const Superblock&) const = default;
};

/// The first device that is in. REQUIRES: there is one, as in every valid superblock.
const DeviceEntry& first_in(const std::vector<DeviceEntry>& devices);
/// Sets or clears the feature bit that says whether devices are out.
void update_features(Superblock& superblock);
/// Checks every field. Errors: bad_superblock (the detail says which field), unsupported_feature.
Result<void> validate(const Superblock& superblock);
/// True if enough generations follow `generation` for a mount that writes.
inline bool leaves_generations(Generation generation) {
  return generation <= kMaxGeneration - kSpareGenerations;
}
/// Encodes copy `copy` (0 or 1), padded to a multiple of kBlockSize. Error: invalid_argument if
/// `superblock` is not valid (the detail says which field).
Result<AlignedBuffer> encode(const Superblock& superblock, unsigned copy = 0);
/// Checks magic, checksum, version, features and every field. Errors: not_found if our magic is not
/// there, bad_superblock (the detail says which field), unsupported_feature.
Result<Superblock> decode_superblock(ConstBytes bytes, unsigned copy = 0);
/// The length in bytes of the superblock that begins with `first_block`. The checksum is not known
/// yet, so the length is limited: it is a multiple of kBlockSize and at most kSuperblockMaxBytes.
uint64_t encoded_length(ConstBytes first_block);
/// `path` as a superblock can record it: empty if it is too long.
std::string recordable_path(const std::string& path);
/// All fields, one on each line.
std::string describe(const Superblock& superblock);

/// Reads one copy (0 or 1). Errors: those of decode_superblock, io_error.
Result<Superblock> read_superblock_copy(IoEngine& engine, Device& device, unsigned copy);
/// Reads the copy that counts. Errors: not_found if neither copy has our magic, bad_superblock if a
/// copy has it but none is valid, unsupported_feature, io_error; each with a sentence.
Result<Superblock> read_superblock(IoEngine& engine, Device& device);
/// Writes copy 0, flushes, writes copy 1, which is durable after the next flush. REQUIRES: the
/// fields about the device are set. Errors: invalid_argument, io_error.
Result<void> write_superblock(IoEngine& engine, Device& device, const Superblock& superblock);
/// Flushes, then reads both copies. Errors: checksum_mismatch if one differs from what
/// write_superblock(superblock) writes, io_error.
Result<void> verify_superblock(IoEngine& engine, Device& device, const Superblock& superblock);
/// Overwrites both copies with zeros, durably. Copy 1 goes first: it may be older than copy 0 and
/// must not be the one that is left. Error: io_error.
Result<void> wipe_superblocks(IoEngine& engine, Device& device);

}  // namespace moltfs::alloc
