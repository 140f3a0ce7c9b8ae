// SPDX-License-Identifier: MIT
// For tests of volumes that claim what no mount would have written.
#pragma once

#include <functional>
#include <memory>

#include "fs/check/check_test_util.h"
#include "fs/mount/mount.h"
#include "replace/record.h"

namespace moltfs::fs::test {

class HostileVolume : public DamagedVolume {
 public:
  /// Changes both superblock copies; alloc does not look into what fs and replace have there.
  void change_superblock(const std::function<void(alloc::Superblock&)>& change) {
    auto device = must(devices.open("mem:a", {}));
    auto super = must(alloc::read_superblock(devices, *device));
    change(super);
    must(alloc::write_superblock(devices, *device, super));
  }
  void change_counters(const std::function<void(FsCounters&)>& change) {
    change_superblock([&](alloc::Superblock& super) {
      auto payload = must(decode_fs_payload(super.fs_payload));
      change(payload.counters);
      super.fs_payload = encode(payload);
    });
  }
  void set_record(const replace::Record& record) {
    change_superblock([&](alloc::Superblock& super) { super.replace_payload = encode(record); });
  }
  uint64_t next_inode() {
    auto device = must(devices.open("mem:a", {}));
    const auto super = must(alloc::read_superblock(devices, *device));
    return must(decode_fs_payload(super.fs_payload)).counters.next_inode;
  }
  Result<std::unique_ptr<Mount>> try_mount(bool read_only = false) {
    Mount::Options options;
    options.read_only = read_only;
    options.commit_interval = Nanoseconds::zero();
    return Mount::open(runtime, devices, {"mem:a"}, options);
  }
  std::unique_ptr<Mount> mount() { return must(try_mount()); }
};

/// An extent of preallocated blocks and its record, as the product writes such a pair.
struct PreallocatedPair {
  FileExtentOnDisk extent;
  ExtentRecordOnDisk record{};

  PreallocatedPair(LogicalOffset at, uint64_t length, InodeNumber owner, uint64_t file_offset) {
    extent.logical = at.value;
    extent.length = static_cast<uint32_t>(length);
    extent.flags = kExtentUnwritten;
    record.birth = 1;
    record.inode = owner.value;
    record.file_offset = file_offset;
    record.length = extent.length;
    record.flags = kExtentUnwritten;
  }
};

inline replace::Record suspended_record(const alloc::Superblock& super) {
  replace::Record record;
  record.facts.state = replace::State::suspended;
  record.facts.source = super.devices.front();
  record.facts.target = record.facts.source;
  record.facts.target.uuid.bytes[0] ^= 0xff;
  return record;
}

inline alloc::Superblock superblock_of(HostileVolume& p) {
  return must(alloc::read_superblock(p.devices, *must(p.devices.open("mem:a", {}))));
}

}  // namespace moltfs::fs::test
