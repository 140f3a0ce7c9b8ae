// SPDX-License-Identifier: MIT
// What this machine's kernel tells about storages: sysfs, loop devices, the table of mounts. Used
// only inside this folder.
//
// It reads /proc/self/mountinfo, /proc/swaps, /sys/dev/block and /sys/block, and opens the nodes of
// loop devices in /dev to ask them for their files. What cannot be read is unknown: not an error.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/device/mountinfo.h"
#include "alloc/device/storage.h"

namespace moltfs::alloc {

class Machine final : public StorageFacts {
 public:
  std::optional<Loop> loop(dev_t block_device) override;
  std::optional<Partition> partition(dev_t block_device) override;
  std::vector<dev_t> components(dev_t block_device) override;
  Below below(dev_t filesystem) override;

  /// The table of mounts, read once.
  const std::vector<MountinfoEntry>& mounts();
  /// What is open at a descriptor, or what a path leads to. Attributes that the kernel has are
  /// enough: no request is sent to a FUSE filesystem. Errors: those of open_path() and statx(2).
  struct Thing {
    StorageId id;          ///< meaningful for block devices and regular files
    mode_t mode = 0;       ///< as st_mode
    dev_t filesystem = 0;  ///< that it lies on; 0 if this mount namespace does not have it
  };
  Result<Thing> at(int fd, const std::string& path);
  Result<Thing> at(const std::string& path);
  /// All loop devices that have a file.
  static std::vector<dev_t> loop_devices();
  static std::vector<dev_t> partitions_of(dev_t disk);
  /// The filesystem that the file of a loop device seems to lie on, by its path; 0 if unknown.
  dev_t filesystem_of_loop(dev_t loop_device);
  /// True if the loop device may lie on a filesystem that does not answer (a network filesystem,
  /// FUSE). Then asking it may block.
  bool may_block(dev_t loop_device);
  /// The node of a block device in /dev; empty if there is none.
  static std::string node_of(dev_t block_device);
  /// True if the file is used for swap.
  bool is_swap_file(const StorageLayer& file);

 private:
  std::optional<Loop> loop_by_path(const std::string& directory, const std::string& path);
  dev_t filesystem_of_text(const std::string& path);
  void add_source(const std::string& path, Below& below);

  std::optional<std::vector<MountinfoEntry>> mounts_;
};

}  // namespace moltfs::alloc
