// SPDX-License-Identifier: MIT
// Single structures, with some fields changed.
#include <fmt/format.h>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/log_batch.h"
#include "fs/check/describe_item.h"
#include "fs/content/extents.h"
#include "fs/inode/acl.h"
#include "fs/inode/orphan_mark.h"
#include "fs/inode/xattrs.h"
#include "fs/names/dir_entry.h"
#include "fs/tree/log_content.h"
#include "replace/command.h"
#include "replace/ledger.h"
#include "replace/record.h"
#include "test/fuzz/base_images.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {
namespace {

using alloc::Superblock;

void require(bool condition, const char* what) {
  if (!condition) fail(what);
}

const BaseImage& any_image(Choices& choices) {
  const BaseImage& image = choices.of(base_images());
  choices.use(image.raw.values());
  return image;
}

unsigned times(Choices& choices) {
  return static_cast<unsigned>(1 + choices.below(choices.one_in(4) ? 4 : 2));
}

void superblock(Choices& choices) {
  RawSuperblock raw = choices.of(any_image(choices).raw.superblocks());
  for (unsigned i = times(choices); i > 0; --i) mutate(raw, choices);
  ByteVector bytes = raw.encode();
  bytes.resize(std::max<size_t>(bytes.size(), kBlockSize));
  require(alloc::encoded_length(bytes) <= alloc::kSuperblockMaxBytes, "a superblock is too long");
  const auto decoded = alloc::decode_superblock(bytes, raw.header.copy == 1 ? 1 : 0);
  if (!decoded) return;
  ++accepted_inputs;
  const Superblock& super = decoded.value();
  require(!alloc::describe(super).empty(), "no description");
  const auto again = alloc::encode(super, 0);
  require(again.has_value(), "a valid superblock cannot be written");
  const auto twice = alloc::decode_superblock(again.value().span(), 0);
  require(twice && twice.value() == super, "a superblock does not read back");
  const auto record = replace::decode_record(super.replace_payload);
  if (record) (void)replace::validate_in(record.value(), super);
  (void)fs::decode_fs_payload(super.fs_payload);
}

void chunk_table(Choices& choices) {
  const BaseImage& image = any_image(choices);
  RawChunkTable raw = image.raw.table();
  for (unsigned i = times(choices); i > 0; --i) mutate(raw, choices);
  RawSuperblock of = image.raw.superblocks().front();
  if (choices.one_in(2)) of.header.next_logical = uint64_t{1} << 62;
  std::vector<alloc::DeviceEntry> devices;
  for (const RawDevice& device : of.devices) {
    alloc::DeviceEntry entry;
    entry.devid = DeviceId(device.devid);
    entry.size_bytes = choices.one_in(2) ? uint64_t{1} << 62 : device.size;
    devices.push_back(entry);
  }
  Uuid volume;
  volume.bytes = of.header.volume;
  const alloc::ChunkTableLimits limits{devices, LogicalOffset(of.header.next_logical),
                                       Generation(raw.header.generation)};
  const auto chunks = alloc::decode_chunk_table(raw.encode(), volume, limits);
  if (!chunks) return;
  require(alloc::encode_chunk_table(chunks.value(), volume, limits).has_value(),
          "a valid chunk table cannot be written");
  ++accepted_inputs;
  (void)alloc::describe(chunks.value());
  for (const alloc::DeviceEntry& entry : devices) {
    for (const auto& extent : alloc::device_extents(chunks.value(), entry.devid)) {
      (void)alloc::pieces_of_stripe(*extent.chunk, extent.stripe_index,
                                    {extent.range.start, 64 * 1024});
      require(alloc::find_chunk(chunks.value(), extent.chunk->start) == extent.chunk.get(),
              "a chunk is not found");
    }
  }
}

void fs_payload(Choices& choices) {
  ByteVector payload = any_image(choices).raw.superblocks().front().fs;
  for (unsigned i = times(choices); i > 0; --i) mutate_fs_payload(payload, choices);
  const auto decoded = fs::decode_fs_payload(payload);
  if (!decoded) return;
  ++accepted_inputs;
  require(fs::encode(decoded.value()) == payload, "a payload does not read back");
}

void change_node(fs::Node& node, Choices& choices) {
  const unsigned count = node.count();
  if (count == 0) return;
  const auto slot = static_cast<unsigned>(choices.below(count));
  if (!node.is_leaf()) {
    node.set_pointer(slot, node.pointer(slot));
    if (count > 1) node.erase(slot);
    return;
  }
  const ByteVector value(choices.below(fs::kMaxItemBytes + 1), std::byte{7});
  (void)node.replace(slot, value);
  node.erase(slot);
  const fs::Key key = slot < node.count() ? node.key(slot) : fs::Key::min();
  const ByteVector small(choices.below(100), std::byte{8});
  if (slot < node.count() && node.fits(small.size())) {
    node.insert(slot, {key.object, key.type, key.offset - 1}, small);
  }
}

void node(Choices& choices) {
  RawNode raw = any_image(choices).raw.any_node(choices);
  for (unsigned i = times(choices); i > 0; --i) mutate_node(raw, choices);
  set(raw.bytes, {0, 8}, checksum_of(ConstBytes(raw.bytes).subspan(8)));
  const auto header = *load<fs::NodeHeader>(raw.bytes);
  const fs::NodeExpectation expected{
      raw.tree,
      raw.level,
      {LogicalOffset(header.address), Generation(header.birth), header.checksum}};
  if (!fs::validate_node(raw.bytes, expected, nullptr)) return;
  ++accepted_inputs;
  AlignedBuffer buffer(kNodeSize);
  std::copy(raw.bytes.begin(), raw.bytes.end(), buffer.data());
  fs::Node node(std::move(buffer));
  (void)fs::describe(node, [&](const fs::Item& item) { return fs::describe_item(raw.tree, item); });
  (void)fs::children_of(node, expected);
  change_node(node, choices);
  node.seal();
}

void item(Choices& choices) {
  const auto& items = any_image(choices).raw.items();
  if (items.empty()) return;
  const PlacedItem& placed = choices.of(items);
  RawItem raw_item = placed.item;
  for (unsigned i = times(choices); i > 0; --i) mutate_item(raw_item, choices);
  const fs::Item item{raw_item.key, raw_item.value};
  (void)fs::describe_item(placed.tree, item);
  switch (item.key.type) {
    case 1: {
      const auto inode = fs::decode_inode(InodeNumber(item.key.object), item.value);
      if (!inode) return;
      ++accepted_inputs;
      const fs::InodeOnDisk disk = fs::encode_inode(inode.value());
      require(std::ranges::equal(object_bytes(disk), item.value), "an inode does not read back");
      (void)inode.value().attributes();
      break;
    }
    case 2: {
      const auto head = fs::decode_xattr(item.key, item.value);
      if (!head) return;
      ++accepted_inputs;
      auto acl = fs::Acl::parse(head.value().first_part);
      if (!acl || acl.value().empty()) return;
      acl.value().set_mode_bits(0751);
      (void)acl.value().inherit(0644);
      (void)acl.value().encode();
      break;
    }
    case 3:
      (void)fs::decode_entry(item.key, item.value);
      break;
    case 5: {
      const auto extent = fs::decode_file_extent(item);
      if (!extent) return;
      ++accepted_inputs;
      (void)extent.value().slice(extent.value().file_offset, extent.value().file_end());
      break;
    }
    case 6:
      (void)fs::decode_orphan_mark(item.key, item.value);
      break;
    case 16: {
      const auto record = fs::decode_record(item);
      if (!record || record.value().unwritten) return;
      (void)record.value().checksum(record.value().length / kBlockSize - 1);
      break;
    }
    default:
      break;
  }
}

void record(Choices& choices) {
  const BaseImage& image = any_image(choices);
  const RawSuperblock& super = image.raw.superblocks().front();
  auto raw = RawRecord::parse(super.replace);
  if (!raw) return superblock(choices);
  for (unsigned i = times(choices); i > 0; --i) mutate(*raw, choices);
  const ByteVector bytes = raw->encode();
  const auto decoded = replace::decode_record(bytes);
  if (!decoded) return;
  ++accepted_inputs;
  const replace::Record& record = decoded.value();
  require(replace::encode(record) == bytes, "a record does not read back");
  (void)replace::describe(record);
  (void)replace::to_json(record.facts);
  const auto parsed = alloc::decode_superblock(super.encode(), super.header.copy);
  require(parsed.has_value(), "the superblock of a sound image is not valid");
  if (!replace::validate_in(record, parsed.value())) return;
  // What the engine does with it, as far as it concerns only the record.
  Generation generation = parsed.value().generation;
  replace::Ledger ledger(record, generation);
  for (uint64_t i = choices.below(6); i > 0; --i) {
    generation = generation + 1;
    if (choices.one_in(3) && ledger.fault() && ledger.arming()) (void)ledger.give_up_arming();
    ledger.on_seal(generation);
    (void)ledger.on_flushed(!choices.one_in(4));
    ledger.on_durable(generation);
    if (!ledger.standing() && ledger.arming()) (void)ledger.give_up_arming();
    if (ledger.standing() || choices.one_in(2)) continue;
    ledger.begin_arming(ledger.record());
    ledger.drained();
  }
  (void)ledger.durable_coverage().complete(PhysicalOffset(1 << 30));
}

void log(Choices& choices) {
  std::vector<const BaseImage*> with_log;
  for (const BaseImage& image : base_images()) {
    if (!image.raw.log().empty()) with_log.push_back(&image);
  }
  if (with_log.empty()) return node(choices);
  RawBatch batch = choices.of(choices.of(with_log)->raw.log());
  for (unsigned i = times(choices); i > 0; --i) mutate(batch, choices);
  const auto count = static_cast<uint32_t>(batch.items.size());
  const ByteVector payload = batch.encode_payload(
      choices.one_in(16) ? static_cast<uint32_t>(choices.number(32, count)) : count);
  const auto content = fs::decode_log_content(payload);
  if (content) {
    ++accepted_inputs;
    require(std::ranges::equal(fs::encode(content.value()), payload),
            "the content of a batch does not read back");
  }
  const ByteVector bytes = batch.encode(batch.header.previous);
  alloc::LogBase base;
  base.volume.bytes = batch.header.volume;
  base.generation = Generation(batch.header.generation);
  base.id = batch.header.log_id;
  (void)alloc::read_log(bytes, base, {});
}

void command(Choices& choices) {
  static constexpr std::string_view kWords[] = {"start",  "resume", "cancel",  "status", "--force",
                                                "1",      "/dev/x", "\"a b\"", "\"",     "\\",
                                                "\"\\\"", "\n",     "\t",      "-",      "\"\""};
  std::string text;
  for (uint64_t i = choices.below(6); i > 0; --i) {
    text += kWords[choices.below(std::size(kWords))];
    if (!choices.one_in(5)) text += ' ';
    if (choices.one_in(8)) text += static_cast<char>(choices.any());
    if (choices.one_in(100)) text.append(choices.below(5000), 'y');
  }
  const auto parsed = replace::parse_command(text);
  if (!parsed) return;
  ++accepted_inputs;
  const std::string written = replace::format_command(parsed.value());
  const auto again = replace::parse_command(written);
  const bool too_long = written.size() > 4096;  // quotes and backslashes make it longer
  require(too_long || (again && replace::format_command(again.value()) == written),
          "a command does not read back");
}

}  // namespace

void fuzz_decode(Choices& choices) {
  using Part = void (*)(Choices&);
  static constexpr Part kParts[] = {superblock, chunk_table, fs_payload, node, item,   item,
                                    record,     log,         command,    item, record, fs_payload};
  kParts[choices.below(std::size(kParts))](choices);
}

}  // namespace moltfs::fuzz
