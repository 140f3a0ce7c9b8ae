// SPDX-License-Identifier: MIT
// Which bytes a device or image file stands for: pure logic on facts about the machine. Reading
// those facts is the business of identity.h.
//
// A storage is a block device or a regular file, known by the kernel's numbers. It has layers: the
// storage itself, and what its bytes lie on.
//
//   /dev/loop0p1      a partition of loop0, from 1 MiB to 65 MiB
//     /dev/loop0      a loop device on a file, from offset 0
//       /img/a.img    a regular file
//
// Two storages overlap if they have a layer in common and the ranges there intersect: the partition
// above and a.img do, two partitions of one disk do not. A device of the device mapper or of md
// lies somewhere on the devices below it, so its range there is not exact. It overlaps with a
// device below it, but two such devices on one disk (two logical volumes) do not overlap.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moltfs::alloc {

/// A block device or a regular file. Equal for all names of the same one.
struct StorageId {
  bool is_block_device = false;
  dev_t device = 0;    ///< of a block device its number, of a file that of its filesystem (st_dev)
  uint64_t inode = 0;  ///< of a file
  auto operator<=>(const StorageId&) const = default;
};

/// "block 7:3" or "file 0:45:1234".
std::string to_text(const StorageId& id);
/// The reverse; nothing if `text` is not of that form.
std::optional<StorageId> parse_storage_id(std::string_view text);

/// What the kernel tells about storages.
class StorageFacts {
 public:
  struct Loop {
    StorageId backing;
    uint64_t offset = 0;  ///< bytes
    uint64_t length = 0;  ///< bytes; 0: to the end of the file
    /// The mount that the file is on, by its device number; 0 if unknown.
    dev_t filesystem = 0;
    std::string path = {};  ///< the name of the file now, as far as the kernel knows
  };
  struct Partition {
    dev_t disk = 0;
    uint64_t start = 0, length = 0;  ///< bytes
  };
  /// What a filesystem is stored on.
  struct Below {
    std::vector<StorageId> storages;
    std::vector<dev_t> filesystems;
  };
  virtual ~StorageFacts() = default;
  virtual std::optional<Loop> loop(dev_t block_device) = 0;
  virtual std::optional<Partition> partition(dev_t block_device) = 0;
  /// The devices that a device of the device mapper or of md consists of.
  virtual std::vector<dev_t> components(dev_t block_device) = 0;
  virtual Below below(dev_t filesystem) = 0;
};

struct StorageLayer {
  enum class Reached : uint8_t { itself, by_loop, by_partition, by_mapper };
  static constexpr uint64_t kToTheEnd = std::numeric_limits<uint64_t>::max();

  StorageId id;
  uint64_t start = 0, end = kToTheEnd;  ///< bytes
  /// The storage is exactly this range. Otherwise it lies somewhere in it.
  bool is_exact = true;
  Reached reached = Reached::itself;
  /// Of a file: the mount that it is on, by its device number; 0 if unknown.
  dev_t filesystem = 0;
  std::string path;  ///< of the file of a loop device: where it may be found
  bool operator==(const StorageLayer&) const = default;
};

/// From the storage itself, which lies on `filesystem`, down to the lowest.
std::vector<StorageLayer> layers_of(StorageFacts& facts, const StorageId& storage,
                                    dev_t filesystem = 0);

/// True if writing to one changes the other.
bool overlap(const std::vector<StorageLayer>& one, const std::vector<StorageLayer>& other);

/// True if `filesystem` is `served`, or is stored on something that lies on `served`.
bool stands_on(StorageFacts& facts, dev_t filesystem, dev_t served);
/// The same for a storage.
bool stands_on(StorageFacts& facts, const std::vector<StorageLayer>& layers, dev_t served);

}  // namespace moltfs::alloc
