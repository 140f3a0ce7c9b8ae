// SPDX-License-Identifier: MIT
// A volume as the format pages describe it, every field of which can be changed to anything: what
// alloc, fs and replace would refuse to write. Checksums, lengths and the pointers to changed nodes
// are made right again when it is written, unless they are what was changed.
//
// It is read with the product's decoders from a volume that is in order, and written by code of its
// own.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/disk/chunk.h"
#include "alloc/disk/format.h"
#include "fs/tree/format.h"
#include "test/fuzz/choices.h"
#include "test/support/memory_device.h"

namespace moltfs::fuzz {

using ByteVector = std::vector<std::byte>;

/// A field of `bytes` (1 to 8) bytes at `offset` of some structure.
struct Field {
  size_t offset;
  unsigned bytes;
};
uint64_t get(ConstBytes from, const Field& field);
void set(Bytes to, const Field& field, uint64_t value);
/// Gives one of `fields` another value. Fields beyond the end of `bytes` are left alone.
void change_one(Bytes bytes, std::span<const Field> fields, Choices& choices);

struct RawDevice {
  uint64_t devid = 0;
  std::array<std::byte, 16> uuid{};
  uint64_t size = 0;
  std::string path;
};

struct RawSuperblock {
  alloc::format::SuperblockHeader header;
  std::string label;
  std::vector<RawDevice> devices;
  ByteVector fs, replace;
  std::vector<RawDevice> successions;  ///< pending, predecessor, successor; size unused
  bool lengths_are_false = false;      ///< length and body length stay as they are in `header`

  static std::optional<RawSuperblock> parse(ConstBytes bytes);
  ByteVector encode() const;
};

struct RawStripe {
  alloc::format::StripeRecord record;
};
struct RawChunk {
  alloc::format::ChunkRecord record;
  std::vector<RawStripe> stripes;
};
struct RawChunkTable {
  alloc::format::ChunkTableHeader header;
  std::vector<RawChunk> chunks;
  bool counts_are_false = false;  ///< length and number of chunks stay as they are in `header`

  static std::optional<RawChunkTable> parse(ConstBytes bytes);
  ByteVector encode() const;
};

struct RawInterval {
  uint64_t first = 0, last = 0;
  uint8_t kind = 0;
  uint64_t up_to = 0;
};
struct RawHole {
  uint64_t start = 0, length = 0;
  uint32_t blocks = 0;
  uint8_t accepted = 0;
};
struct RawRecord {
  uint16_t version = 1;
  uint8_t state = 0, reserved = 0;
  RawDevice source, target;
  std::array<uint64_t, 15> numbers{};
  std::string reason;
  std::vector<RawInterval> coverage;
  std::vector<RawHole> holes;  ///< from version 2 on
  ByteVector rest;             ///< of a later version

  static std::optional<RawRecord> parse(ConstBytes bytes);
  ByteVector encode() const;
};

struct RawLogItem {
  uint8_t tree = 1, action = 1;
  fs::Key key;
  ByteVector value;
};
struct RawBatch {
  alloc::format::LogBatchHeader header;
  ByteVector chunks;
  std::array<uint64_t, 3> counters{};
  std::vector<RawLogItem> items;

  static std::optional<RawBatch> parse(ConstBytes bytes);
  /// `count`: the number of items that it claims.
  ByteVector encode_payload(uint32_t count) const;
  /// Of the whole batch. `previous`: the checksum of the batch before. The lengths of batch and
  /// payload are made right, unless the length of the chunk table is false.
  ByteVector encode(uint64_t previous) const;
};

struct RawItem {
  fs::Key key;
  ByteVector value;
};
struct RawNode {
  ByteVector bytes;
  fs::TreeId tree = fs::TreeId::fs;
  uint64_t parent = 0;  ///< address; 0: it is a root
  unsigned slot = 0;    ///< of the parent
  uint8_t level = 0;
};
/// An item, and the leaf that it is in.
struct PlacedItem {
  uint64_t leaf;
  fs::TreeId tree;
  RawItem item;
};
/// A leaf with these items; the header of `node` is kept. False if they do not fit.
bool put_items(RawNode& node, const std::vector<RawItem>& items);
std::vector<RawItem> items_of(const RawNode& node);

/// Changes fields of a structure; each keeps the structure so that it can be encoded.
void mutate(RawSuperblock& superblock, Choices& choices);
void mutate(RawChunkTable& table, Choices& choices);
void mutate(RawRecord& record, Choices& choices);
void mutate(RawBatch& batch, Choices& choices);
void mutate_fs_payload(ByteVector& payload, Choices& choices);
inline constexpr std::array<uint8_t, 8> kItemTypes = {1, 2, 3, 4, 5, 6, 16, 17};
void mutate_key(fs::Key& key, Choices& choices);
void mutate_item(RawItem& item, Choices& choices);
/// A field of a node: of its header, or of one slot.
void mutate_node(RawNode& node, Choices& choices);

class RawImage {
 public:
  /// The devices of one volume, which is in order. Nothing if it cannot be parsed.
  static std::optional<RawImage> parse(const std::vector<std::shared_ptr<test::MemoryDisk>>& disks);

  /// Changes one to four things.
  void mutate(Choices& choices);
  /// Writes what has changed to copies of the disks, in the order of parse().
  std::vector<std::shared_ptr<test::MemoryDisk>> write() const;

  const std::vector<RawSuperblock>& superblocks() const { return superblocks_; }
  /// Index of the disk that has the newest superblock of a member.
  size_t leading_disk() const { return leader_; }
  const RawChunkTable& table() const { return table_; }
  const std::vector<RawBatch>& log() const { return log_; }
  /// One of the nodes, as parsed. There is at least one, the root of a tree.
  const RawNode& any_node(Choices& choices) const {
    return parsed_->nodes.at(choices.of(parsed_->addresses));
  }
  /// All items of the leaves, as parsed.
  const std::vector<PlacedItem>& items() const { return parsed_->items; }
  /// Numbers that fields of the image have, as parsed.
  std::span<const uint64_t> values() const { return parsed_->values; }
  /// A node has other bytes than before, at its old place and with its old birth. Only the members
  /// get them: the target of a replace that goes on keeps what it has.
  bool changes_nodes() const { return !changed_nodes_.empty(); }

 private:
  struct Place {
    size_t disk;
    uint64_t offset;
  };
  /// What all copies of an image share.
  struct Parsed {
    std::map<uint64_t, RawNode> nodes;
    std::vector<uint64_t> addresses;  // of the nodes
    std::vector<PlacedItem> items;
    std::vector<uint64_t> values;
    std::map<uint64_t, size_t> disk_of;  // by devid
    uint64_t log_end = 0;                // bytes of the log's area that are in use
  };

  std::vector<Place> places_of(uint64_t address) const;
  void read_nodes(fs::TreeId tree, Parsed& parsed) const;
  void read_log(ConstBytes area, Parsed& parsed);
  void collect_values(Parsed& parsed) const;
  void mutate_once(Choices& choices);
  void mutate_tree(Choices& choices);
  void plant(std::vector<RawItem>& items, Choices& choices);
  void mutate_log(Choices& choices);
  RawBatch new_batch(Choices& choices) const;
  /// Makes two structures disagree, each of which may be valid alone.
  void contradict(Choices& choices);
  void move_extent(Choices& choices);
  void overlap_stripes(Choices& choices);
  void log_strange_extents(Choices& choices);
  /// An item of this type; null if there is none.
  const PlacedItem* any_item(uint8_t type, Choices& choices) const;
  /// Calls change(item) and puts the item back into its leaf.
  template <class F>
  void change_item(const PlacedItem& place, const F& change);
  RawNode& node_to_change(uint64_t address);
  void seal_nodes();
  const RawSuperblock& leader() const { return superblocks_[leader_]; }

  std::vector<std::shared_ptr<test::MemoryDisk>> disks_;
  std::vector<RawSuperblock> superblocks_;  // of each disk
  size_t leader_ = 0;                       // the newest member
  alloc::ChunkList chunks_;                 // as parsed
  RawChunkTable table_;
  std::vector<RawBatch> log_;
  std::shared_ptr<const Parsed> parsed_;
  std::map<uint64_t, RawNode> changed_nodes_;  // by address
  bool table_changed_ = false, log_changed_ = false;
  bool table_checksum_is_false_ = false;
};

}  // namespace moltfs::fuzz
