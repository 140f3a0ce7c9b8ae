// SPDX-License-Identifier: MIT
// What fs/tree puts on disk: tree nodes, chunk usage records, and the fs payload of the superblock.
// Described in fs/tree/FORMAT.md.
#pragma once

#include <array>
#include <boost/endian/arithmetic.hpp>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"
#include "fs/tree/key.h"

namespace moltfs::fs {

namespace le {
using boost::endian::little_int64_t;
using boost::endian::little_uint16_t;
using boost::endian::little_uint32_t;
using boost::endian::little_uint64_t;
using boost::endian::little_uint8_t;
}  // namespace le

enum class TreeId : uint8_t { fs = 1, extent = 2 };
inline constexpr size_t kTreeCount = 2;
inline constexpr unsigned kMaxTreeHeight = 10;

struct NodePointer {
  LogicalOffset address;
  Generation birth;
  uint64_t checksum = 0;
  bool operator==(const NodePointer&) const = default;
};

/// The root of a tree. An empty tree has one empty leaf.
struct TreeRoot {
  NodePointer node;
  uint8_t level = 0;
  bool operator==(const TreeRoot&) const = default;
};

/// No inode has this number or a greater one, and there are not more inodes than that.
inline constexpr uint64_t kInodeNumbersEnd = uint64_t{1} << 62;

/// Counters that live in the superblock's fs payload.
struct FsCounters {
  uint64_t next_inode = 0;
  uint64_t inode_count = 0;
  uint64_t hash_seed = 0;  ///< of directory entries' hashes; fixed at mkfs
  bool operator==(const FsCounters&) const = default;
};

inline constexpr uint32_t kNodeMagic = 0x4e544c4d;  // "MLTN"
inline constexpr uint8_t kNodeVersion = 1;

struct NodeHeader {
  le::little_uint64_t checksum;  ///< XXH3-64 of the rest of the node
  le::little_uint32_t magic;
  le::little_uint8_t version;
  le::little_uint8_t tree;
  le::little_uint8_t level;  ///< 0: leaf
  le::little_uint8_t reserved0;
  std::array<uint8_t, 16> volume;
  le::little_uint64_t address;
  le::little_uint64_t birth;
  le::little_uint16_t count;
  le::little_uint16_t values_start;  ///< leaf: lowest byte of the values; inner: kNodeSize
  std::array<uint8_t, 12> reserved1;
};
static_assert(sizeof(NodeHeader) == 64 && std::is_trivially_copyable_v<NodeHeader>);

struct KeyOnDisk {
  le::little_uint64_t object;
  le::little_uint8_t type;
  le::little_uint64_t offset;
};
static_assert(sizeof(KeyOnDisk) == 17);

/// Leaf: this array after the header, the values at the end of the node.
struct LeafSlot {
  KeyOnDisk key;
  le::little_uint16_t offset;  ///< of the value, from the start of the node
  le::little_uint16_t length;
};
static_assert(sizeof(LeafSlot) == 21);

/// Inner node: this array after the header.
struct InnerSlot {
  KeyOnDisk key;
  le::little_uint64_t address;
  le::little_uint64_t birth;
  le::little_uint64_t checksum;
};
static_assert(sizeof(InnerSlot) == 41);

/// Bytes for slots and values, or for entries.
inline constexpr size_t kNodeCapacity = kNodeSize - sizeof(NodeHeader);
/// The longest value of an item: at least four items fit into a leaf.
inline constexpr size_t kMaxItemBytes = 3900;
static_assert(4 * (kMaxItemBytes + sizeof(LeafSlot)) <= kNodeCapacity);
inline constexpr unsigned kMaxInnerEntries = kNodeCapacity / sizeof(InnerSlot);

/// Chunk usage records lie together at the end of the extent tree, so that a mount reads
/// few leaves.
inline constexpr uint64_t kUsageObject = UINT64_MAX;
inline constexpr uint8_t kUsageType = 17;
constexpr Key usage_key(LogicalOffset chunk) {
  return {kUsageObject, kUsageType, chunk.value};
}

/// Value of a chunk usage item: the bytes of the data chunk that have extent records.
struct ChunkUsageOnDisk {
  le::little_uint64_t used_bytes;
};
static_assert(sizeof(ChunkUsageOnDisk) == 8);

/// The fs payload of the superblock.
struct FsPayload {
  std::array<TreeRoot, kTreeCount> roots;
  FsCounters counters;
  bool operator==(const FsPayload&) const = default;
};
std::vector<std::byte> encode(const FsPayload& payload);
/// Error: bad_item if a counter is beyond its end.
Result<void> check_counters(const FsCounters& counters);
/// Errors: unsupported_feature (unknown version), bad_item.
Result<FsPayload> decode_fs_payload(ConstBytes bytes);

}  // namespace moltfs::fs
