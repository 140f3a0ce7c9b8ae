// SPDX-License-Identifier: MIT
// Whether a device is blank: nothing but zeros or holes wherever a filesystem, a partition table, a
// volume manager's label or other data could be.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::alloc {

struct ByteRange {
  uint64_t start = 0, end = 0;
  bool operator==(const ByteRange&) const = default;
};

/// The places that find_data() reads on a device of `size_bytes`, ascending, without overlaps:
///  - everything if the device has up to 256 MiB. Otherwise
///  - the first and the last 16 MiB: superblocks, partition tables and their backups, the labels of
///    LVM, RAID members, ZFS and LUKS;
///  - 128 KiB around each power of two, and around each multiple of 128 MiB up to 8 GiB: copies of
///    superblocks (btrfs, ext);
///  - 128 KiB around 1,024 places at equal distances: any other data.
std::vector<ByteRange> sampled_ranges(uint64_t size_bytes);

/// Offset of the first byte other than zero in the sampled ranges of the block device or image file
/// open for reading at `fd`; nothing if there is none. Of an image file, holes are not read; if it
/// has up to 256 MiB outside holes, all of that is read, instead of samples. `size_bytes` is a
/// multiple of kBlockSize. Works with direct I/O. Error: io_error (the device cannot be read).
Result<std::optional<uint64_t>> find_data(int fd, uint64_t size_bytes);

}  // namespace moltfs::alloc
