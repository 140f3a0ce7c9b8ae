// SPDX-License-Identifier: MIT
// For tests of superblocks: one that is valid.
#pragma once

#include "alloc/disk/superblock.h"
#include "test/support/values.h"

namespace moltfs::test {

/// Of devid 3, the second of two devices.
inline alloc::Superblock sample_superblock() {
  alloc::Superblock sb;
  sb.volume = uuid_of(1);
  sb.generation = Generation(7);
  sb.compatible_features = 5;
  sb.label = "my volume";
  sb.chunk_size = 4 << 20;
  sb.next_logical = LogicalOffset(64 << 20);
  sb.chunk_table = {1, 500, 0x1234, Generation(6)};
  sb.devices = {{DeviceId(1), uuid_of(11), 64 << 20, "/dev/a"},
                {DeviceId(3), uuid_of(13), 16 << 20, ""}};
  sb.fs_payload.assign(100, std::byte{9});
  sb.replace_payload.assign(300, std::byte{8});
  sb.devid = DeviceId(3);
  sb.device = uuid_of(13);
  return sb;
}

}  // namespace moltfs::test
