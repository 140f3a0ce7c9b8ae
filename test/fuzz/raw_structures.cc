// SPDX-License-Identifier: MIT
// Parsing, changing and encoding the structures of a raw volume.
#include "test/fuzz/raw_image.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/disk/log_batch.h"
#include "fs/format.h"

namespace moltfs::fuzz {
namespace {

using alloc::format::ChunkRecord;
using alloc::format::ChunkTableHeader;
using alloc::format::LogBatchHeader;
using alloc::format::StripeRecord;
using alloc::format::SuperblockHeader;

// ---- The fields of the format pages, as offsets. Magic numbers and checksums are left out: a
//      reader stops at them, and they hide everything else.

template <size_t... index>
constexpr auto row(size_t from, unsigned bytes, std::index_sequence<index...>) {
  return std::array<Field, sizeof...(index)>{Field{from + index * bytes, bytes}...};
}
constexpr Field kSuperblockFields[] = {{20, 2},  {22, 1},  {23, 1},  {24, 8},  {40, 8},  {56, 8},
                                       {64, 8},  {72, 8},  {80, 8},  {88, 8},  {96, 8},  {104, 8},
                                       {112, 8}, {120, 4}, {124, 1}, {125, 1}, {126, 2}, {132, 1},
                                       {133, 1}, {134, 8}, {142, 8}, {64, 8},  {96, 8}};
constexpr Field kTableFields[] = {{16, 8}, {32, 8}, {48, 2}, {50, 8}};
constexpr Field kChunkFields[] = {{0, 8},  {8, 8},  {16, 8}, {24, 4}, {28, 1},
                                  {29, 1}, {30, 2}, {32, 2}, {34, 4}};
constexpr Field kStripeFields[] = {{0, 8}, {8, 8}, {16, 4}, {20, 4}};
constexpr Field kBatchFields[] = {{16, 8}, {32, 8}, {40, 8}, {48, 8}, {56, 8}, {64, 4},
                                  {68, 4}, {72, 4}, {76, 4}, {80, 2}, {82, 1}, {83, 8}};
constexpr Field kPayloadFields[] = {{0, 1},  {1, 1},  {2, 8},  {10, 8}, {18, 8}, {26, 1}, {27, 8},
                                    {35, 8}, {43, 8}, {51, 8}, {59, 8}, {67, 8}, {51, 8}, {59, 8}};
constexpr Field kNodeFields[] = {{12, 1}, {13, 1}, {14, 1}, {15, 1}, {16, 8},
                                 {32, 8}, {40, 8}, {48, 2}, {50, 2}, {52, 8}};
constexpr Field kLeafSlotFields[] = {{0, 8}, {8, 1}, {9, 8}, {17, 2}, {19, 2}};
constexpr Field kInnerSlotFields[] = {{0, 8}, {8, 1}, {9, 8}, {17, 8}, {25, 8}, {33, 8}};
constexpr Field kInodeFields[] = {{0, 8},   {8, 8},  {16, 8}, {24, 8}, {32, 4}, {36, 4},
                                  {40, 4},  {44, 4}, {48, 8}, {56, 4}, {60, 8}, {68, 4},
                                  {72, 8},  {80, 4}, {84, 8}, {92, 4}, {96, 8}, {104, 4},
                                  {108, 4}, {0, 8},  {8, 8},  {56, 1}, {32, 2}};
constexpr Field kEntryFields[] = {{0, 8}, {8, 1}, {9, 1}, {10, 1}, {11, 1}};
constexpr Field kXattrFields[] = {{0, 4}, {4, 1}, {5, 1}, {6, 1}, {12, 8}, {20, 8}, {34, 4}};
constexpr Field kExtentFields[] = {{0, 8}, {8, 4}, {12, 4}};
constexpr Field kRecordFields[] = {{0, 8}, {8, 8}, {16, 8}, {24, 4}, {28, 4}, {32, 8}};
constexpr Field kUsageFields[] = {{0, 8}};
constexpr Field kMarkFields[] = {{0, 1}};
constexpr Field kTextFields[] = {{0, 1}, {1, 1}, {7, 4}};

std::span<const Field> fields_of(uint8_t type) {
  switch (type) {
    case 1:
      return kInodeFields;
    case 2:
      return kXattrFields;
    case 3:
      return kEntryFields;
    case 5:
      return kExtentFields;
    case 6:
      return kMarkFields;
    case 16:
      return kRecordFields;
    case 17:
      return kUsageFields;
    default:
      return kTextFields;
  }
}

template <class T>
Bytes bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

/// `text` with a byte changed, longer or shorter.
void mutate_text(std::string& text, Choices& choices) {
  switch (choices.below(5)) {
    case 0:
      text.clear();
      break;
    case 1:
      text.resize(choices.below(1200), 'x');
      break;
    case 2:
      text.insert(choices.below(text.size() + 1), 1, static_cast<char>(choices.any()));
      break;
    case 3:
      text += '\0';
      break;
    default:
      if (!text.empty()) choices.of(text) = static_cast<char>(choices.any());
  }
}

void set_checksum(Bytes bytes, size_t offset) {
  std::memset(bytes.data() + offset, 0, sizeof(uint64_t));
  set(bytes, {offset, 8}, checksum_of(bytes));
}

/// As read from a ByteReader; what is missing reads as zero.
struct Source {
  ByteReader reader;
  bool failed = false;

  template <class T>
  T value(Result<T> result) {
    if (result) return std::move(result).value();
    failed = true;
    return {};
  }
  uint64_t u64() { return value(reader.u64()); }
  RawDevice device(bool with_size) {
    RawDevice device;
    device.devid = u64();
    const ConstBytes uuid = value(reader.bytes(16));
    std::copy(uuid.begin(), uuid.end(), device.uuid.begin());
    if (with_size) device.size = u64();
    device.path = value(reader.string());
    return device;
  }
};

void put(ByteWriter& out, const RawDevice& device, bool with_size) {
  out.u64(device.devid);
  out.bytes(device.uuid);
  if (with_size) out.u64(device.size);
  out.string(std::string_view(device.path).substr(0, UINT16_MAX));
}

void mutate_device(RawDevice& device, Choices& choices) {
  switch (choices.below(4)) {
    case 0:
      device.devid = choices.number(64, device.devid);
      break;
    case 1:
      set(device.uuid, {0, 8}, choices.number(64, get(device.uuid, {0, 8})));
      if (choices.one_in(4)) device.uuid = {};
      break;
    case 2:
      device.size = choices.number(64, device.size);
      break;
    default:
      mutate_text(device.path, choices);
  }
}

}  // namespace

uint64_t get(ConstBytes from, const Field& field) {
  uint64_t value = 0;
  if (field.offset + field.bytes > from.size()) return 0;
  std::memcpy(&value, from.data() + field.offset, field.bytes);
  return boost::endian::little_to_native(value);
}

void set(Bytes to, const Field& field, uint64_t value) {
  if (field.offset + field.bytes > to.size()) return;
  value = boost::endian::native_to_little(value);
  std::memcpy(to.data() + field.offset, &value, field.bytes);
}

void change_one(Bytes bytes, std::span<const Field> fields, Choices& choices) {
  const Field& field = choices.of(fields);
  set(bytes, field, choices.number(field.bytes * 8, get(bytes, field)));
}

// ---- Superblock

std::optional<RawSuperblock> RawSuperblock::parse(ConstBytes bytes) {
  const auto loaded = load<SuperblockHeader>(bytes);
  if (!loaded || bytes.size() < sizeof(SuperblockHeader) + loaded->body_length) return std::nullopt;
  RawSuperblock super{*loaded, {}, {}, {}, {}, {}};
  Source in{ByteReader(bytes.subspan(sizeof(SuperblockHeader), loaded->body_length))};
  super.label = in.value(in.reader.string());
  for (unsigned i = 0; i < loaded->device_count; ++i) super.devices.push_back(in.device(true));
  const ConstBytes fs = in.value(in.reader.blob());
  const ConstBytes replace = in.value(in.reader.blob());
  super.fs.assign(fs.begin(), fs.end());
  super.replace.assign(replace.begin(), replace.end());
  for (uint8_t bit : {1, 2, 4}) {
    if ((loaded->optional_parts & bit) != 0) super.successions.push_back(in.device(false));
  }
  if (in.failed) return std::nullopt;
  return super;
}

ByteVector RawSuperblock::encode() const {
  ByteWriter body;
  body.string(std::string_view(label).substr(0, UINT16_MAX));
  for (const RawDevice& device : devices) put(body, device, true);
  body.blob(fs);
  body.blob(replace);
  for (const RawDevice& device : successions) put(body, device, false);
  ByteVector out(std::min(round_up(sizeof(header) + body.size(), kBlockSize), uint64_t{65536}));
  SuperblockHeader head = header;
  if (!lengths_are_false) {
    head.body_length = static_cast<uint32_t>(body.size());
    head.length = static_cast<uint32_t>(out.size());
  }
  store(out, head);
  const ConstBytes text = body.span();
  std::copy_n(text.begin(), std::min(text.size(), out.size() - sizeof(head)),
              out.begin() + sizeof(head));
  set_checksum(out, offsetof(SuperblockHeader, checksum));
  return out;
}

void mutate(RawSuperblock& super, Choices& choices) {
  switch (choices.below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      change_one(bytes_of(super.header), kSuperblockFields, choices);
      break;
    case 4:
      mutate_text(super.label, choices);
      break;
    case 5:
      if (!super.devices.empty()) mutate_device(choices.of(super.devices), choices);
      break;
    case 6: {  // a device more or less
      if (choices.one_in(2) && !super.devices.empty()) {
        super.devices.erase(super.devices.begin() +
                            static_cast<ptrdiff_t>(choices.below(super.devices.size())));
      } else {
        RawDevice device = super.devices.empty() ? RawDevice() : choices.of(super.devices);
        device.devid = choices.number(8, device.devid);
        set(device.uuid, {0, 8}, choices.any());
        super.devices.push_back(device);
      }
      if (choices.one_in(2)) {
        super.header.device_count = static_cast<uint16_t>(super.devices.size());
      }
      break;
    }
    case 7: {  // a succession more, or one changed
      if (choices.one_in(2) && !super.successions.empty()) {
        mutate_device(choices.of(super.successions), choices);
        break;
      }
      RawDevice device = super.devices.empty() ? RawDevice() : choices.of(super.devices);
      if (choices.one_in(2)) set(device.uuid, {0, 8}, choices.any());
      super.successions.push_back(device);
      super.header.optional_parts =
          static_cast<uint8_t>(super.header.optional_parts | 1u << choices.below(3));
      break;
    }
    case 8:
      mutate_fs_payload(super.fs, choices);
      break;
    default:
      if (choices.one_in(8)) {
        constexpr Field kLengths[] = {{16, 4}, {128, 4}};
        super.lengths_are_false = true;
        change_one(bytes_of(super.header), kLengths, choices);
      } else if (auto record = RawRecord::parse(super.replace)) {
        mutate(*record, choices);
        super.replace = record->encode();
      } else {
        super.replace.resize(choices.below(200), std::byte(choices.any()));
      }
  }
}

void mutate_fs_payload(ByteVector& payload, Choices& choices) {
  if (choices.one_in(16)) payload.resize(choices.below(200));
  change_one(payload, kPayloadFields, choices);
}

// ---- Chunk table

std::optional<RawChunkTable> RawChunkTable::parse(ConstBytes bytes) {
  ByteReader reader(bytes);
  auto header = reader.object<ChunkTableHeader>();
  if (!header) return std::nullopt;
  RawChunkTable table{header.value(), {}};
  for (unsigned i = 0; i < table.header.chunk_count; ++i) {
    auto record = reader.object<ChunkRecord>();
    if (!record) return std::nullopt;
    RawChunk chunk{record.value(), {}};
    for (unsigned k = 0; k < chunk.record.stripe_count; ++k) {
      auto stripe = reader.object<StripeRecord>();
      if (!stripe) return std::nullopt;
      chunk.stripes.push_back({stripe.value()});
    }
    table.chunks.push_back(std::move(chunk));
  }
  return table;
}

ByteVector RawChunkTable::encode() const {
  ByteWriter out;
  out.object(header);
  for (const RawChunk& chunk : chunks) {
    out.object(chunk.record);
    for (const RawStripe& stripe : chunk.stripes) out.object(stripe.record);
  }
  ByteVector bytes = out.take();
  if (!counts_are_false) {
    set(bytes, {40, 4}, bytes.size());
    set(bytes, {44, 4}, chunks.size());
  }
  set_checksum(bytes, offsetof(ChunkTableHeader, checksum));
  return bytes;
}

void mutate(RawChunkTable& table, Choices& choices) {
  RawChunk* chunk = table.chunks.empty() ? nullptr : &choices.of(table.chunks);
  switch (choices.below(8)) {
    case 0:
      change_one(bytes_of(table.header), kTableFields, choices);
      return;
    case 1: {
      constexpr Field kCounts[] = {{40, 4}, {44, 4}};
      table.counts_are_false = true;
      set(bytes_of(table.header), {40, 4}, table.encode().size());
      set(bytes_of(table.header), {44, 4}, table.chunks.size());
      change_one(bytes_of(table.header), kCounts, choices);
      return;
    }
    case 2:
      if (chunk && choices.one_in(2)) {
        const RawChunk copy = *chunk;
        table.chunks.push_back(copy);
      } else if (chunk) {
        table.chunks.erase(table.chunks.begin() + (chunk - table.chunks.data()));
      }
      return;
    case 3:
    case 4:
    case 5:
      if (chunk) change_one(bytes_of(chunk->record), kChunkFields, choices);
      return;
    case 6:
      if (chunk && !chunk->stripes.empty()) {
        change_one(bytes_of(choices.of(chunk->stripes).record), kStripeFields, choices);
      }
      return;
    default:
      if (chunk && !chunk->stripes.empty()) {
        chunk->stripes.push_back(choices.of(chunk->stripes));
        if (choices.one_in(2)) {
          chunk->record.stripe_count = static_cast<uint16_t>(chunk->stripes.size());
        }
      }
  }
}

// ---- Replace record

namespace {

constexpr uint16_t kVersionWithHoles = 2;

void mutate_holes(RawRecord& record, Choices& choices) {
  record.version = kVersionWithHoles;
  if (record.holes.empty() || choices.one_in(4)) {
    const uint64_t count = choices.one_in(8) ? 250 + choices.below(10) : 1 + choices.below(3);
    uint64_t at = record.holes.empty() ? 4 << 20 : record.holes.back().start + (1 << 20);
    for (uint64_t i = 0; i < count; ++i, at += 2 * kBlockSize) {
      record.holes.push_back({at, kBlockSize, 1, static_cast<uint8_t>(choices.below(2))});
    }
    if (choices.one_in(2)) return;
  }
  RawHole& hole = choices.of(record.holes);
  switch (choices.below(4)) {
    case 0:
      hole.start = choices.number(64, hole.start);
      break;
    case 1:
      hole.length = choices.number(64, hole.length);
      break;
    case 2:
      hole.blocks = static_cast<uint32_t>(choices.number(32, hole.blocks));
      break;
    default:
      hole.accepted = static_cast<uint8_t>(choices.below(3));
  }
}

}  // namespace

std::optional<RawRecord> RawRecord::parse(ConstBytes bytes) {
  if (bytes.empty()) return std::nullopt;
  Source in{ByteReader(bytes)};
  RawRecord record;
  record.version = in.value(in.reader.u16());
  record.state = in.value(in.reader.u8());
  record.reserved = in.value(in.reader.u8());
  record.source = in.device(true);
  record.target = in.device(true);
  for (uint64_t& number : record.numbers) number = in.u64();
  record.reason = in.value(in.reader.string());
  const unsigned count = in.value(in.reader.u16());
  for (unsigned i = 0; i < count && !in.failed; ++i) {
    RawInterval interval;
    interval.first = in.u64();
    interval.last = in.u64();
    interval.kind = in.value(in.reader.u8());
    interval.up_to = in.u64();
    record.coverage.push_back(interval);
  }
  const unsigned holes = record.version == kVersionWithHoles ? in.value(in.reader.u16()) : 0;
  for (unsigned i = 0; i < holes && !in.failed; ++i) {
    RawHole hole;
    hole.start = in.u64();
    hole.length = in.u64();
    hole.blocks = in.value(in.reader.u32());
    hole.accepted = in.value(in.reader.u8());
    record.holes.push_back(hole);
  }
  const ConstBytes rest = in.value(in.reader.bytes(in.reader.left()));
  record.rest.assign(rest.begin(), rest.end());
  if (in.failed) return std::nullopt;
  return record;
}

ByteVector RawRecord::encode() const {
  ByteWriter out;
  out.u16(version);
  out.u8(state);
  out.u8(reserved);
  put(out, source, true);
  put(out, target, true);
  for (const uint64_t number : numbers) out.u64(number);
  out.string(reason);
  out.u16(static_cast<uint16_t>(coverage.size()));
  for (const RawInterval& interval : coverage) {
    out.u64(interval.first);
    out.u64(interval.last);
    out.u8(interval.kind);
    out.u64(interval.up_to);
  }
  if (version == kVersionWithHoles) out.u16(static_cast<uint16_t>(holes.size()));
  for (const RawHole& hole : holes) {
    out.u64(hole.start);
    out.u64(hole.length);
    out.u32(hole.blocks);
    out.u8(hole.accepted);
  }
  out.bytes(rest);
  return out.take();
}

void mutate(RawRecord& record, Choices& choices) {
  switch (choices.below(10)) {
    case 0:
      record.state = static_cast<uint8_t>(choices.below(10));
      if (choices.one_in(2)) record.coverage.clear();
      break;
    case 1:
      if (choices.one_in(3)) record.version = static_cast<uint16_t>(choices.below(4));
      if (choices.one_in(3)) record.reserved = static_cast<uint8_t>(choices.any());
      mutate_text(record.reason, choices);
      break;
    case 2:
      mutate_device(choices.one_in(2) ? record.source : record.target, choices);
      break;
    case 3:
      record.source.devid = record.target.devid = choices.number(64, record.source.devid);
      break;
    case 4: {
      uint64_t& number = choices.of(record.numbers);
      number = choices.number(64, number);
      break;
    }
    case 5:
      if (!record.coverage.empty()) {
        RawInterval& interval = choices.of(record.coverage);
        uint64_t* const fields[] = {&interval.first, &interval.last, &interval.up_to};
        uint64_t& field = *choices.of(fields);
        field = choices.number(64, field);
        if (choices.one_in(4)) interval.kind = static_cast<uint8_t>(choices.below(3));
      }
      break;
    case 6: {  // many intervals, with or without gaps
      const uint64_t count = choices.one_in(2) ? 500 + choices.below(20) : choices.below(20);
      const uint64_t step = choices.below(3) + 1;
      std::vector<RawInterval> made;
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t first = 1 + i * step;
        made.push_back({first, first, static_cast<uint8_t>(i % 2), i % 2 == 1 ? 0 : i * 4096});
      }
      if (choices.one_in(2)) {
        const uint64_t next = choices.one_in(2) ? 2 + count * step : choices.number(16, 4);
        made.push_back({next, ~uint64_t{0}, 1, 0});
      }
      record.coverage = std::move(made);
      break;
    }
    case 7:
      mutate_holes(record, choices);
      break;
    case 8:  // the target is the source
      record.target = record.source;
      if (choices.one_in(2)) record.target.uuid[15] ^= std::byte{1};
      break;
    default:
      record.coverage.push_back({choices.number(16, 3), ~uint64_t{0}, 1, 0});
      if (choices.one_in(2)) record.state = static_cast<uint8_t>(1 + choices.below(4));
  }
}

// ---- Log

std::optional<RawBatch> RawBatch::parse(ConstBytes bytes) {
  const auto loaded = load<LogBatchHeader>(bytes);
  if (!loaded || loaded->magic != alloc::format::kLogBatchMagic) return std::nullopt;
  RawBatch batch{*loaded, {}, {}, {}};
  Source in{ByteReader(bytes.subspan(sizeof(LogBatchHeader)))};
  const ConstBytes chunks = in.value(in.reader.bytes(loaded->chunks_length));
  batch.chunks.assign(chunks.begin(), chunks.end());
  for (uint64_t& counter : batch.counters) counter = in.u64();
  const uint32_t count = in.value(in.reader.u32());
  for (uint32_t i = 0; i < count && !in.failed; ++i) {
    RawLogItem item;
    item.tree = in.value(in.reader.u8());
    item.action = in.value(in.reader.u8());
    item.key.object = in.u64();
    item.key.type = in.value(in.reader.u8());
    item.key.offset = in.u64();
    if (item.action == 1) {
      const ConstBytes value = in.value(in.reader.bytes(in.value(in.reader.u16())));
      item.value.assign(value.begin(), value.end());
    }
    batch.items.push_back(std::move(item));
  }
  if (in.failed) return std::nullopt;
  return batch;
}

ByteVector RawBatch::encode_payload(uint32_t count) const {
  ByteWriter out;
  for (const uint64_t counter : counters) out.u64(counter);
  out.u32(count);
  for (const RawLogItem& item : items) {
    out.u8(item.tree);
    out.u8(item.action);
    out.u64(item.key.object);
    out.u8(item.key.type);
    out.u64(item.key.offset);
    if (item.action != 1) continue;
    out.u16(static_cast<uint16_t>(item.value.size()));
    out.bytes(item.value);
  }
  return out.take();
}

ByteVector RawBatch::encode(uint64_t previous) const {
  const ByteVector payload = encode_payload(static_cast<uint32_t>(items.size()));
  LogBatchHeader head = header;
  const uint64_t length = round_up(sizeof(head) + chunks.size() + payload.size(), kBlockSize);
  if (head.chunks_length == chunks.size()) {
    head.payload_length = static_cast<uint32_t>(payload.size());
    head.length = static_cast<uint32_t>(length);
  }
  head.previous = previous;
  ByteWriter out;
  out.object(head);
  out.bytes(chunks);
  out.bytes(payload);
  ByteVector bytes = out.take();
  bytes.resize(length);
  set_checksum(bytes, offsetof(LogBatchHeader, checksum));
  return bytes;
}

void mutate(RawBatch& batch, Choices& choices) {
  switch (choices.below(5)) {
    case 0:
      change_one(bytes_of(batch.header), kBatchFields, choices);
      return;
    case 1: {
      uint64_t& counter = choices.of(batch.counters);
      counter = choices.number(64, counter);
      return;
    }
    default: {
      if (batch.items.empty()) return;
      RawLogItem& item = choices.of(batch.items);
      if (choices.one_in(6)) item.tree = static_cast<uint8_t>(choices.number(8, item.tree));
      if (choices.one_in(6)) item.action = static_cast<uint8_t>(choices.number(8, item.action));
      RawItem as_item{item.key, item.value};
      mutate_item(as_item, choices);
      item.key = as_item.key;
      item.value = as_item.value;
    }
  }
}

// ---- Nodes and items

std::vector<RawItem> items_of(const RawNode& node) {
  std::vector<RawItem> items;
  const auto header = *load<fs::NodeHeader>(node.bytes);
  for (unsigned i = 0; i < header.count; ++i) {
    const auto slot =
        load<fs::LeafSlot>(node.bytes, sizeof(fs::NodeHeader) + i * sizeof(fs::LeafSlot));
    if (!slot || size_t{slot->offset} + slot->length > node.bytes.size()) break;
    const auto value = node.bytes.begin() + slot->offset;
    items.push_back(
        {{slot->key.object, slot->key.type, slot->key.offset}, {value, value + slot->length}});
  }
  return items;
}

bool put_items(RawNode& node, const std::vector<RawItem>& items) {
  fs::NodeHeader header = *load<fs::NodeHeader>(node.bytes);
  ByteVector bytes(kNodeSize);
  size_t end = kNodeSize;
  const size_t head = sizeof(header) + items.size() * sizeof(fs::LeafSlot);
  for (size_t i = 0; i < items.size(); ++i) {
    const ByteVector& value = items[i].value;
    if (head > end || value.size() > end - head) return false;
    end -= value.size();
    std::copy(value.begin(), value.end(), bytes.begin() + static_cast<ptrdiff_t>(end));
    fs::LeafSlot slot;
    slot.key.object = items[i].key.object;
    slot.key.type = items[i].key.type;
    slot.key.offset = items[i].key.offset;
    slot.offset = static_cast<uint16_t>(end);
    slot.length = static_cast<uint16_t>(value.size());
    store(bytes, slot, sizeof(header) + i * sizeof(slot));
  }
  header.count = static_cast<uint16_t>(items.size());
  header.values_start = static_cast<uint16_t>(end);
  store(bytes, header);
  node.bytes = std::move(bytes);
  return true;
}

void mutate_key(fs::Key& key, Choices& choices) {
  switch (choices.below(3)) {
    case 0:
      key.object = choices.number(64, key.object);
      break;
    case 1:
      key.offset = choices.number(64, key.offset);
      break;
    default:
      key.type = choices.one_in(3) ? static_cast<uint8_t>(choices.any()) : choices.of(kItemTypes);
  }
}

void mutate_item(RawItem& item, Choices& choices) {
  switch (choices.below(8)) {
    case 0:
    case 1:
    case 2:
      mutate_key(item.key, choices);
      break;
    case 3:
      item.value.resize(choices.one_in(2) ? choices.below(item.value.size() + 20)
                                          : choices.below(4100));
      break;
    default:
      if (!item.value.empty()) change_one(item.value, fields_of(item.key.type), choices);
  }
}

void mutate_node(RawNode& node, Choices& choices) {
  const unsigned count = load<fs::NodeHeader>(node.bytes)->count;
  const bool leaf = node.level == 0;
  if (count == 0 || choices.one_in(3)) return change_one(node.bytes, kNodeFields, choices);
  const size_t slot_bytes = leaf ? sizeof(fs::LeafSlot) : sizeof(fs::InnerSlot);
  const size_t offset = sizeof(fs::NodeHeader) + choices.below(count) * slot_bytes;
  if (offset + slot_bytes > node.bytes.size()) return;
  const Bytes slot = Bytes(node.bytes).subspan(offset, slot_bytes);
  if (leaf) {
    change_one(slot, kLeafSlotFields, choices);
  } else {
    change_one(slot, kInnerSlotFields, choices);
  }
}

}  // namespace moltfs::fuzz
