// SPDX-License-Identifier: MIT
// Parsing, changing and writing whole volumes.
#include "test/fuzz/raw_image.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/log_batch.h"
#include "fs/format.h"

namespace moltfs::fuzz {

using alloc::format::LogBatchHeader;
using alloc::format::SuperblockHeader;

namespace {

/// The offset of a tree's root in the fs payload: level, address, birth, checksum.
size_t root_offset(fs::TreeId tree) {
  return 1 + (static_cast<size_t>(tree) - 1) * 25;
}
constexpr Field kNextInode{51, 8};  // of the fs payload
constexpr uint8_t kDirEntry = 3, kXattr = 2, kInode = 1, kExtent = 5, kExtentRecord = 16;
constexpr uint8_t kUsage = 17;
constexpr Field kEntryInode{0, 8}, kInodeParent{16, 8}, kInodeLinks{36, 4}, kExtentLogical{0, 8};

/// A place on a device that is not for chunks, or the first one that is.
uint64_t reserved_place(Choices& choices) {
  static constexpr uint64_t kPlaces[] = {
      0,
      alloc::kSuperblockOffsets[0],
      alloc::kSuperblockOffsets[1],
      alloc::kLogOffsets[0],
      alloc::kLogOffsets[1],
      alloc::kChunkTableOffsets[0],
      alloc::kChunkTableOffsets[1],
      uint64_t{4} << 20,
  };
  return choices.of(kPlaces);
}

}  // namespace

// ---- Parsing

std::optional<RawImage> RawImage::parse(
    const std::vector<std::shared_ptr<test::MemoryDisk>>& disks) {
  RawImage image;
  Parsed parsed;
  image.disks_ = disks;
  uint64_t newest = 0;
  for (size_t i = 0; i < disks.size(); ++i) {
    ByteVector bytes(alloc::kSuperblockMaxBytes);
    std::optional<RawSuperblock> best;
    for (const uint64_t offset : alloc::kSuperblockOffsets) {
      disks[i]->read(offset, bytes);
      if (!alloc::decode_superblock(bytes, offset == alloc::kSuperblockOffsets[1] ? 1 : 0))
        continue;
      auto super = RawSuperblock::parse(bytes);
      if (super && (!best || super->header.generation > best->header.generation)) best = super;
    }
    if (!best) return std::nullopt;
    const bool member = best->header.role == static_cast<uint8_t>(alloc::DeviceRole::member);
    if (member) parsed.disk_of[best->header.devid] = i;
    if (member && best->header.generation > newest) {
      newest = best->header.generation;
      image.leader_ = i;
    }
    image.superblocks_.push_back(std::move(*best));
  }
  if (newest == 0) return std::nullopt;
  const SuperblockHeader& header = image.leader().header;
  ByteVector table(round_up(header.table_length, kBlockSize));
  disks[image.leader_]->read(alloc::kChunkTableOffsets[header.table_slot], table);
  table.resize(header.table_length);
  auto raw = RawChunkTable::parse(table);
  auto super = alloc::decode_superblock(image.leader().encode(), header.copy);
  if (!raw || !super) return std::nullopt;
  auto chunks = alloc::decode_chunk_table(
      table, super.value().volume,
      {super.value().devices, super.value().next_logical, super.value().chunk_table.generation});
  if (!chunks) return std::nullopt;
  image.table_ = std::move(*raw);
  image.chunks_ = std::move(chunks).value();
  const auto shared = std::make_shared<Parsed>(std::move(parsed));
  image.parsed_ = shared;
  for (const fs::TreeId tree : {fs::TreeId::fs, fs::TreeId::extent}) {
    image.read_nodes(tree, *shared);
  }
  if (shared->addresses.empty()) return std::nullopt;
  ByteVector area(alloc::kLogBytes);
  disks[image.leader_]->read(alloc::kLogOffsets[header.generation % 2], area);
  image.read_log(area, *shared);
  image.collect_values(*shared);
  return image;
}

void RawImage::read_nodes(fs::TreeId tree, Parsed& parsed) const {
  struct Wanted {
    uint64_t address, parent;
    unsigned slot;
    uint8_t level;
  };
  const size_t root = root_offset(tree);
  const ByteVector& payload = leader().fs;
  std::vector<Wanted> wanted{
      {get(payload, {root + 1, 8}), 0, 0, static_cast<uint8_t>(get(payload, {root, 1}))}};
  while (!wanted.empty()) {
    const Wanted next = wanted.back();
    wanted.pop_back();
    const auto places = places_of(next.address);
    if (places.empty()) continue;
    RawNode node{ByteVector(kNodeSize), tree, next.parent, next.slot, next.level};
    disks_[places.front().disk]->read(places.front().offset, node.bytes);
    const auto header = *load<fs::NodeHeader>(node.bytes);
    for (unsigned i = 0; next.level > 0 && i < header.count; ++i) {
      const auto slot =
          *load<fs::InnerSlot>(node.bytes, sizeof(fs::NodeHeader) + i * sizeof(fs::InnerSlot));
      wanted.push_back({slot.address, next.address, i, static_cast<uint8_t>(next.level - 1)});
    }
    if (next.level == 0) {
      for (RawItem& item : items_of(node)) {
        parsed.items.push_back({next.address, tree, std::move(item)});
      }
    }
    parsed.addresses.push_back(next.address);
    parsed.nodes.emplace(next.address, std::move(node));
  }
}

void RawImage::read_log(ConstBytes area, Parsed& parsed) {
  const SuperblockHeader& header = leader().header;
  while (auto batch = RawBatch::parse(area.subspan(parsed.log_end))) {
    const uint64_t length = batch->header.length;
    const bool is_ours =
        batch->header.generation == header.generation && batch->header.log_id == header.log_id;
    if (!is_ours || length == 0 || length > area.size() - parsed.log_end) break;
    log_.push_back(std::move(*batch));
    parsed.log_end += length;
  }
}

void RawImage::collect_values(Parsed& parsed) const {
  std::vector<uint64_t>& values = parsed.values;
  const SuperblockHeader& header = leader().header;
  values = {
      header.generation,           header.generation + 1, header.generation + alloc::kReplayStep,
      header.table_generation,     header.next_logical,   header.log_id,
      alloc::kMaxGeneration.value, alloc::kMaxLogical,    fs::kInodeNumbersEnd,
      get(leader().fs, kNextInode)};
  for (const RawDevice& device : leader().devices) values.push_back(device.size);
  for (const RawChunk& chunk : table_.chunks) {
    values.insert(values.end(), {chunk.record.start, chunk.record.start + chunk.record.length,
                                 chunk.record.length, chunk.record.birth});
    for (const RawStripe& stripe : chunk.stripes) values.push_back(stripe.record.offset);
  }
  values.insert(values.end(), parsed.addresses.begin(), parsed.addresses.end());
  for (const PlacedItem& placed : parsed.items) {
    values.insert(values.end(), {placed.item.key.object, placed.item.key.offset});
    if (placed.item.key.type == kExtent) values.push_back(get(placed.item.value, kExtentLogical));
  }
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

std::vector<RawImage::Place> RawImage::places_of(uint64_t address) const {
  std::vector<Place> places;
  const alloc::Chunk* chunk = alloc::find_chunk(chunks_, LogicalOffset(address));
  if (!chunk) return places;
  const uint64_t within = address - chunk->start.value;
  const uint64_t unit = chunk->stripe_unit, columns = chunk->columns();
  const uint64_t column = columns == 1 ? 0 : within / unit % columns;
  const uint64_t offset = columns == 1 ? within : within / unit / columns * unit + within % unit;
  for (unsigned copy = 0; copy < chunk->copies; ++copy) {
    const alloc::Stripe& stripe = chunk->stripes[column * chunk->copies + copy];
    const auto disk = parsed_->disk_of.find(stripe.device.value);
    if (disk != parsed_->disk_of.end()) {
      places.push_back({disk->second, stripe.offset.value + offset});
    }
  }
  return places;
}

// ---- Changing

void RawImage::mutate(Choices& choices) {
  choices.use(values());
  const uint64_t count = 1 + choices.below(choices.one_in(4) ? 4 : 2);
  for (uint64_t i = 0; i < count; ++i) mutate_once(choices);
  choices.use({});
}

void RawImage::mutate_once(Choices& choices) {
  // What all superblocks say is changed by the same choices in each.
  const uint64_t seed = choices.any();
  const auto same = [&] {
    Choices chosen(seed);
    chosen.use(values());
    return chosen;
  };
  switch (choices.below(15)) {
    case 0: {
      for (RawSuperblock& super : superblocks_) {
        const SuperblockHeader own = super.header;
        Choices chosen = same();
        fuzz::mutate(super, chosen);
        if (choices.one_in(4)) continue;
        super.header.device = own.device;  // a superblock of another device is soon refused
        super.header.devid = own.devid;
        super.header.role = own.role;
      }
      break;
    }
    case 1:
      fuzz::mutate(choices.of(superblocks_), choices);
      break;
    case 2: {
      for (RawSuperblock& super : superblocks_) {
        Choices chosen = same();
        mutate_fs_payload(super.fs, chosen);
      }
      break;
    }
    case 3: {
      for (RawSuperblock& super : superblocks_) {
        Choices chosen = same();
        auto record = RawRecord::parse(super.replace);
        if (!record) {
          record.emplace();
          record->state = static_cast<uint8_t>(1 + chosen.below(7));
          if (super.devices.empty()) continue;
          record->source = super.devices.front();
          record->target = record->source;
          set(record->target.uuid, {0, 8}, chosen.any());
          if (record->state == 1 || record->state == 2 || record->state == 4) {
            record->coverage.push_back({super.header.generation, ~uint64_t{0}, 1, 0});
          }
        }
        fuzz::mutate(*record, chosen);
        super.replace = record->encode();
      }
      break;
    }
    case 4:
      table_changed_ = true;
      fuzz::mutate(table_, choices);
      if (choices.one_in(16)) table_checksum_is_false_ = true;
      // Addresses and generations of the table mean little if the superblock forbids them.
      if (choices.one_in(3)) {
        const uint64_t generation = choices.number(64, leader().header.generation);
        for (RawSuperblock& super : superblocks_) super.header.generation = generation;
      }
      if (choices.one_in(3)) {
        const uint64_t next = choices.one_in(2) ? uint64_t{1} << 62 : choices.number(64, 1 << 24);
        for (RawSuperblock& super : superblocks_) super.header.next_logical = next;
      }
      break;
    case 5:
      mutate_log(choices);
      break;
    case 6:
    case 7:
    case 8:
      contradict(choices);
      break;
    default:
      mutate_tree(choices);
  }
}

RawNode& RawImage::node_to_change(uint64_t address) {
  return changed_nodes_.try_emplace(address, parsed_->nodes.at(address)).first->second;
}

void RawImage::mutate_tree(Choices& choices) {
  if (parsed_->addresses.empty()) return;
  RawNode& node = node_to_change(choices.of(parsed_->addresses));
  if (node.level > 0 || choices.one_in(8)) return mutate_node(node, choices);
  std::vector<RawItem> items = items_of(node);
  plant(items, choices);
  if (!choices.one_in(8)) {
    std::stable_sort(items.begin(), items.end(),
                     [](const RawItem& a, const RawItem& b) { return a.key < b.key; });
  }
  (void)put_items(node, items);
}

void RawImage::plant(std::vector<RawItem>& items, Choices& choices) {
  if (items.empty()) {
    items.push_back({{choices.number(64, 256), choices.of(kItemTypes), choices.number(64, 0)},
                     ByteVector(choices.below(130), std::byte(choices.any()))});
    return;
  }
  RawItem& item = choices.of(items);
  switch (choices.below(6)) {
    case 0:
      items.erase(items.begin() + (&item - items.data()));
      break;
    case 1: {  // the item again, under another key
      RawItem copy = item;
      if (choices.one_in(4)) {
        copy.key.object = get(leader().fs, kNextInode) - 1 + choices.below(3);
      } else {
        mutate_key(copy.key, choices);
      }
      items.push_back(std::move(copy));
      break;
    }
    case 2: {  // the value of another item
      const RawItem& other = choices.of(items);
      if (other.key.type == item.key.type) {
        item.value = ByteVector(other.value);
      } else {
        mutate_item(item, choices);
      }
      break;
    }
    default:
      mutate_item(item, choices);
  }
}

RawBatch RawImage::new_batch(Choices& choices) const {
  const SuperblockHeader& super = leader().header;
  RawBatch batch{};
  batch.header.magic = alloc::format::kLogBatchMagic;
  batch.header.volume = super.volume;
  batch.header.generation = super.generation;
  batch.header.log_id = super.log_id;
  batch.header.running = super.generation + 1;
  batch.header.sequence = static_cast<uint32_t>(log_.size());
  batch.header.version = 1;
  batch.header.flags = static_cast<uint8_t>(choices.below(2));
  for (size_t i = 0; i < 3; ++i) {
    batch.counters[i] = get(leader().fs, {kNextInode.offset + 8 * i, 8});
  }
  return batch;
}

void RawImage::mutate_log(Choices& choices) {
  log_changed_ = true;
  if (log_.empty() || choices.one_in(4)) {
    RawBatch batch = new_batch(choices);
    const auto& placed = items();
    for (uint64_t i = choices.below(6); i > 0 && !placed.empty(); --i) {
      const PlacedItem& from = choices.of(placed);
      RawItem item = from.item;
      if (choices.one_in(2)) mutate_item(item, choices);
      batch.items.push_back({static_cast<uint8_t>(from.tree),
                             static_cast<uint8_t>(1 + choices.below(2)), item.key, item.value});
    }
    log_.push_back(std::move(batch));
  }
  if (!choices.one_in(4)) fuzz::mutate(choices.of(log_), choices);
}

// ---- Contradictions

const PlacedItem* RawImage::any_item(uint8_t type, Choices& choices) const {
  const auto& all = items();
  if (all.empty()) return nullptr;
  const size_t begin = choices.below(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const PlacedItem& placed = all[(begin + i) % all.size()];
    if (placed.item.key.type == type) return &placed;
  }
  return nullptr;
}

template <class F>
void RawImage::change_item(const PlacedItem& place, const F& change) {
  RawNode& leaf = node_to_change(place.leaf);
  std::vector<RawItem> items = items_of(leaf);
  const auto found = std::find_if(items.begin(), items.end(),
                                  [&](const RawItem& item) { return item.key == place.item.key; });
  if (found == items.end()) return;
  change(*found);
  std::stable_sort(items.begin(), items.end(),
                   [](const RawItem& a, const RawItem& b) { return a.key < b.key; });
  (void)put_items(leaf, items);
}

void RawImage::contradict(Choices& choices) {
  const auto field_of = [&](uint8_t type, Field field, uint64_t value) {
    const PlacedItem* const placed = any_item(type, choices);
    if (placed != nullptr) {
      change_item(*placed, [&](RawItem& item) { set(item.value, field, value); });
    }
  };
  const PlacedItem* const inode = any_item(kInode, choices);
  const uint64_t number = inode != nullptr ? inode->item.key.object : 1;
  switch (choices.below(10)) {
    case 0:  // two names of one inode; loops of directories
      return field_of(kDirEntry, kEntryInode, number);
    case 1:
      return field_of(kInode, kInodeParent, number);
    case 2:
      return field_of(kInode, kInodeLinks, choices.number(32, 1));
    case 3:
      return field_of(kUsage, {0, 8}, choices.number(64, 0));
    case 4: {  // two files with one extent; parts of attributes that changed places
      const uint8_t type = choices.one_in(2) ? kExtent : kXattr;
      const PlacedItem *a = any_item(type, choices), *b = any_item(type, choices);
      if (a == nullptr) return;
      const ByteVector value = a->item.value;
      if (type == kXattr) change_item(*a, [&](RawItem& item) { item.value = b->item.value; });
      return change_item(*b, [&](RawItem& item) { item.value = value; });
    }
    case 5:
    case 6:
      return move_extent(choices);
    case 7:
      return overlap_stripes(choices);
    case 8:
      return log_strange_extents(choices);
    default:  // an inode of another type
      if (inode != nullptr) {
        static constexpr uint64_t kTypes[] = {010000, 020000, 040000, 060000, 0100000, 0120000};
        const uint64_t mode = choices.of(kTypes) | 0644;
        change_item(*inode, [&](RawItem& item) { set(item.value, {32, 4}, mode); });
      }
  }
}

/// An extent gets an address where something else lies, or nothing; mostly its record, too.
void RawImage::move_extent(Choices& choices) {
  const PlacedItem* const extent = any_item(kExtent, choices);
  if (extent == nullptr) return;
  const uint64_t old = get(extent->item.value, kExtentLogical);
  uint64_t address = old;
  switch (choices.below(4)) {
    case 0:
      address = choices.of(parsed_->addresses);
      break;
    case 1:
      if (table_.chunks.empty()) return;
      address = choices.of(table_.chunks).record.start + choices.below(64) * kBlockSize;
      break;
    case 2:
      address += kBlockSize;
      break;
    default:
      address = round_down(choices.of(parsed_->values), kBlockSize);
  }
  change_item(*extent, [&](RawItem& item) {
    set(item.value, kExtentLogical, address);
    if (choices.one_in(4)) set(item.value, {12, 4}, 1);  // preallocated: writable in place
  });
  for (const PlacedItem& placed : items()) {
    const fs::Key& key = placed.item.key;
    if (key.type != kExtentRecord || key.object != old || choices.one_in(8)) continue;
    return change_item(placed, [&](RawItem& item) { item.key.object = address; });
  }
}

void RawImage::overlap_stripes(Choices& choices) {
  table_changed_ = true;
  if (table_.chunks.empty()) return;
  RawChunk &a = choices.of(table_.chunks), &b = choices.of(table_.chunks);
  if (a.stripes.empty() || b.stripes.empty()) return;
  auto& moved = choices.of(a.stripes).record;
  const auto& other = choices.of(b.stripes).record;
  switch (choices.below(4)) {
    case 0:
      moved.offset = reserved_place(choices);
      break;
    case 1:
      moved.devid = other.devid;
      moved.offset = other.offset + choices.below(4) * kBlockSize;
      break;
    case 2:
      if (leader().devices.empty()) return;
      moved.offset = leader().devices.front().size - choices.below(4) * kBlockSize;
      break;
    default:
      b.record.start = a.record.start + choices.below(3) * kNodeSize;
  }
}

/// A batch that places extents where space is free, or in use by others.
void RawImage::log_strange_extents(Choices& choices) {
  const PlacedItem* const extent = any_item(kExtent, choices);
  if (extent == nullptr || table_.chunks.empty()) return;
  log_changed_ = true;
  RawBatch batch = new_batch(choices);
  const uint64_t old = get(extent->item.value, kExtentLogical);
  const auto& chunk = choices.of(table_.chunks).record;
  const uint64_t address = chunk.start + choices.below(chunk.length / kBlockSize + 2) * kBlockSize;
  RawItem moved = extent->item;
  set(moved.value, kExtentLogical, address);
  const auto put = [&](fs::TreeId tree, uint8_t action, const RawItem& item) {
    batch.items.push_back({static_cast<uint8_t>(tree), action, item.key, item.value});
  };
  put(fs::TreeId::fs, 1, moved);
  for (const PlacedItem& placed : items()) {
    if (placed.item.key.type != kExtentRecord || placed.item.key.object != old) continue;
    RawItem record = placed.item;
    if (choices.one_in(2)) put(fs::TreeId::extent, 2, record);  // the old place is free now
    record.key.object = address;
    put(fs::TreeId::extent, 1, record);
  }
  log_.push_back(std::move(batch));
}

// ---- Writing

/// From the leaves up: the checksum of each changed node, and the pointer to it.
void RawImage::seal_nodes() {
  for (unsigned level = 0; level <= fs::kMaxTreeHeight; ++level) {
    for (auto& [address, node] : changed_nodes_) {
      if (node.level != level) continue;
      const uint64_t sum = checksum_of(ConstBytes(node.bytes).subspan(8));
      set(node.bytes, {0, 8}, sum);
      if (node.parent == 0) {
        for (RawSuperblock& super : superblocks_) {
          set(super.fs, {root_offset(node.tree) + 17, 8}, sum);
        }
        continue;
      }
      set(node_to_change(node.parent).bytes,
          {sizeof(fs::NodeHeader) + node.slot * sizeof(fs::InnerSlot) + 33, 8}, sum);
    }
  }
}

std::vector<std::shared_ptr<test::MemoryDisk>> RawImage::write() const {
  RawImage sealed = *this;
  sealed.seal_nodes();
  std::vector<std::shared_ptr<test::MemoryDisk>> disks;
  for (const auto& disk : disks_) disks.push_back(disk->clone());
  for (const auto& [address, node] : sealed.changed_nodes_) {
    for (const Place& place : places_of(address)) {
      disks[place.disk]->write(place.offset, node.bytes);
    }
  }
  if (table_changed_) {
    ByteVector table = table_.encode();
    if (table.size() > alloc::kChunkTableMaxBytes) table.resize(alloc::kChunkTableMaxBytes);
    for (size_t i = 0; i < disks.size(); ++i) {
      SuperblockHeader& header = sealed.superblocks_[i].header;
      header.table_length = static_cast<uint32_t>(table.size());
      if (!table_checksum_is_false_) header.table_checksum = checksum_of(table);
      disks[i]->write(alloc::kChunkTableOffsets[header.table_slot % 2], table);
    }
  }
  if (log_changed_) {
    ByteVector area;
    uint64_t previous = 0;
    for (const RawBatch& batch : log_) {
      const ByteVector bytes = batch.encode(previous);
      previous = get(bytes, {offsetof(LogBatchHeader, checksum), 8});
      area.insert(area.end(), bytes.begin(), bytes.end());
    }
    // A block of zeros ends the chain.
    area.resize(std::min<uint64_t>(std::max<uint64_t>(area.size(), parsed_->log_end) + kBlockSize,
                                   alloc::kLogBytes));
    for (size_t i = 0; i < disks.size(); ++i) {
      disks[i]->write(alloc::kLogOffsets[sealed.superblocks_[i].header.generation % 2], area);
    }
  }
  for (size_t i = 0; i < disks.size(); ++i) {
    RawSuperblock& super = sealed.superblocks_[i];
    const uint8_t found = superblocks_[i].header.copy;
    for (unsigned copy : {0u, 1u}) {
      // A false copy number stays false.
      super.header.copy = found < 2 ? static_cast<uint8_t>(copy) : found;
      disks[i]->write(alloc::kSuperblockOffsets[copy], super.encode());
    }
  }
  return disks;
}

}  // namespace moltfs::fuzz
