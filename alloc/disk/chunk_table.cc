// SPDX-License-Identifier: MIT
// Validating, encoding, decoding, describing and reading chunk tables.
#include "alloc/disk/chunk_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/base/load.h"
#include "alloc/base/size_text.h"
#include "alloc/disk/format.h"

namespace moltfs::alloc {

namespace {

using format::ChunkRecord;
using format::ChunkTableHeader;
using format::StripeRecord;

/// Far more stripes than a chunk of any profile has.
constexpr size_t kMaxStripes = 1024;

template <class... Args>
Error bad(fmt::format_string<Args...> text, Args&&... args) {
  return Error(Errc::bad_chunk_table,
               "chunk table: " + fmt::format(text, std::forward<Args>(args)...));
}

template <class... Args>
Error bad_chunk(const Chunk& chunk, fmt::format_string<Args...> text, Args&&... args) {
  return bad("chunk {:#x}: {}", chunk.start.value, fmt::format(text, std::forward<Args>(args)...));
}

/// Do `count` stripes from `first` on lie on different devices?
bool on_distinct_devices(const Chunk& chunk, size_t first, size_t count) {
  std::set<DeviceId> seen;
  for (size_t i = first; i < first + count; ++i) {
    if (!seen.insert(chunk.stripes[i].device).second) return false;
  }
  return true;
}

/// Do the copies and stripes of `chunk` fit its profile?
bool fits_profile(const Chunk& chunk) {
  const size_t stripes = chunk.stripes.size();
  switch (chunk.profile) {
    case Profile::single:
      return chunk.copies == 1 && stripes == 1;
    case Profile::dup:
      return chunk.copies == 2 && stripes == 2 &&
             chunk.stripes[0].device == chunk.stripes[1].device;
    case Profile::raid1:
    case Profile::raid1c3:
    case Profile::raid1c4: {
      const unsigned copies = copies_of(chunk.profile);
      return chunk.copies == copies && stripes == copies && on_distinct_devices(chunk, 0, copies);
    }
    case Profile::raid0:
      return chunk.copies == 1 && stripes >= 2 && on_distinct_devices(chunk, 0, stripes);
    case Profile::raid10:
      if (chunk.copies != 2 || stripes < 4 || stripes % 2 != 0) return false;
      for (size_t column = 0; column < stripes; column += 2) {
        if (!on_distinct_devices(chunk, column, 2)) return false;
      }
      return true;
  }
  return false;
}

uint64_t max_length(ChunkKind kind) {
  return kind == ChunkKind::data ? kMaxDataChunkBytes : kMaxMetadataChunkBytes;
}

Result<void> validate_shape(const Chunk& chunk, const ChunkTableLimits& limits) {
  if (chunk.kind != ChunkKind::data && chunk.kind != ChunkKind::metadata) {
    return bad_chunk(chunk, "kind {} is unknown", static_cast<unsigned>(chunk.kind));
  }
  if (!fits_profile(chunk)) {
    return bad_chunk(chunk, "{} copies and {} stripes do not fit profile {}", chunk.copies,
                     chunk.stripes.size(), static_cast<unsigned>(chunk.profile));
  }
  if (!std::has_single_bit(chunk.stripe_unit) || chunk.stripe_unit < kNodeSize) {
    return bad_chunk(chunk, "stripe unit {} is impossible", chunk.stripe_unit);
  }
  const uint64_t row = uint64_t{chunk.columns()} * chunk.stripe_unit;
  if (chunk.start.value % kNodeSize != 0 || chunk.length == 0 || chunk.length % row != 0 ||
      chunk.length > max_length(chunk.kind) || chunk.start.value > kMaxLogical ||
      chunk.range().end() > limits.next_logical) {
    return bad_chunk(chunk, "length {} is impossible", chunk.length);
  }
  if (chunk.birth.value == 0 || chunk.birth > limits.generation) {
    return bad_chunk(chunk, "born in generation {}, the table is of {}", chunk.birth.value,
                     limits.generation.value);
  }
  return ok();
}

Result<void> validate_stripes(const Chunk& chunk, const ChunkTableLimits& limits) {
  for (const Stripe& stripe : chunk.stripes) {
    auto entry = std::find_if(limits.devices.begin(), limits.devices.end(),
                              [&](const DeviceEntry& e) { return e.devid == stripe.device; });
    if (entry == limits.devices.end()) {
      return bad_chunk(chunk, "stripe on devid {}, which is not a member", stripe.device.value);
    }
    const uint64_t length = chunk.stripe_length();
    if (stripe.offset.value < kFirstChunkOffset || stripe.offset.value % kBlockSize != 0 ||
        length > entry->size_bytes || stripe.offset.value > entry->size_bytes - length) {
      return bad_chunk(chunk, "stripe of {} bytes at {} does not fit devid {} of {} bytes", length,
                       stripe.offset.value, stripe.device.value, entry->size_bytes);
    }
    if (stripe.birth < chunk.birth || stripe.birth > limits.generation) {
      return bad_chunk(chunk, "stripe born in generation {}", stripe.birth.value);
    }
  }
  return ok();
}

Result<void> validate_no_physical_overlap(const ChunkList& chunks) {
  struct Place {
    DeviceId device;
    PhysicalRange range;
    const Chunk* chunk;
  };
  std::vector<Place> places;
  for (const auto& chunk : chunks) {
    for (const Stripe& stripe : chunk->stripes) {
      places.push_back({stripe.device, {stripe.offset, chunk->stripe_length()}, chunk.get()});
    }
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::pair(a.device, a.range.start) < std::pair(b.device, b.range.start);
  });
  for (size_t i = 1; i < places.size(); ++i) {
    const Place& a = places[i - 1];
    const Place& b = places[i];
    if (a.device == b.device && a.range.overlaps(b.range)) {
      return bad_chunk(*a.chunk, "overlaps chunk {:#x} at {} of devid {}", b.chunk->start.value,
                       b.range.start.value, b.device.value);
    }
  }
  return ok();
}

/// XXH3-64 of `bytes`, computed with the header's checksum field as zero.
uint64_t checksum_without_field(ConstBytes bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  std::memset(copy.data() + offsetof(ChunkTableHeader, checksum), 0, sizeof(uint64_t));
  return checksum_of(copy);
}

void put_chunk(ByteWriter& writer, const Chunk& chunk) {
  ChunkRecord record{};
  record.start = chunk.start.value;
  record.length = chunk.length;
  record.birth = chunk.birth.value;
  record.stripe_unit = chunk.stripe_unit;
  record.kind = static_cast<uint8_t>(chunk.kind);
  record.profile = static_cast<uint8_t>(chunk.profile);
  record.copies = chunk.copies;
  record.stripe_count = static_cast<uint16_t>(chunk.stripes.size());
  writer.object(record);
  for (const Stripe& stripe : chunk.stripes) {
    StripeRecord out{};
    out.offset = stripe.offset.value;
    out.birth = stripe.birth.value;
    out.devid = static_cast<uint32_t>(stripe.device.value);
    writer.object(out);
  }
}

Result<std::shared_ptr<const Chunk>> get_chunk(ByteReader& reader) {
  TRY(auto record, reader.object<ChunkRecord>());
  if (!format::all_zero(record.reserved)) return bad("reserved bytes of a chunk are not zero");
  if (record.stripe_count == 0 || record.stripe_count > kMaxStripes) {
    return bad("chunk {:#x}: {} stripes", uint64_t{record.start}, uint16_t{record.stripe_count});
  }
  auto chunk = std::make_shared<Chunk>();
  chunk->start = LogicalOffset(record.start);
  chunk->length = record.length;
  chunk->birth = Generation(record.birth);
  chunk->stripe_unit = record.stripe_unit;
  chunk->kind = static_cast<ChunkKind>(record.kind);
  chunk->profile = static_cast<Profile>(record.profile);
  chunk->copies = record.copies;
  for (unsigned i = 0; i < record.stripe_count; ++i) {
    TRY(auto stripe, reader.object<StripeRecord>());
    if (!format::all_zero(stripe.reserved)) return bad("reserved bytes of a stripe are not zero");
    chunk->stripes.push_back(
        {DeviceId(stripe.devid), PhysicalOffset(stripe.offset), Generation(stripe.birth)});
  }
  return std::shared_ptr<const Chunk>(std::move(chunk));
}

}  // namespace

Result<void> validate_chunks(const ChunkList& chunks, const ChunkTableLimits& limits) {
  LogicalOffset end;
  for (const auto& chunk : chunks) {
    TRY(validate_shape(*chunk, limits));
    TRY(validate_stripes(*chunk, limits));
    if (chunk->start < end) return bad_chunk(*chunk, "overlaps the chunk before it");
    end = chunk->range().end();
  }
  return validate_no_physical_overlap(chunks);
}

Result<std::vector<std::byte>> encode_chunk_table(const ChunkList& chunks, const Uuid& volume,
                                                  const ChunkTableLimits& limits) {
  TRY(validate_chunks(chunks, limits));
  ChunkTableHeader header{};
  ByteWriter writer;
  writer.object(header);
  for (const auto& chunk : chunks) put_chunk(writer, *chunk);
  if (writer.size() > kChunkTableMaxBytes) {
    return bad("{} chunks need {} bytes, but there is room for {}", chunks.size(), writer.size(),
               kChunkTableMaxBytes);
  }
  header.magic = format::kChunkTableMagic;
  header.volume = volume.bytes;
  header.generation = limits.generation.value;
  header.length = static_cast<uint32_t>(writer.size());
  header.chunk_count = static_cast<uint32_t>(chunks.size());
  header.version = format::kChunkTableVersion;
  std::vector<std::byte> blob = writer.take();
  store(blob, header);
  header.checksum = checksum_without_field(blob);
  store(blob, header);
  return blob;
}

Result<ChunkList> decode_chunk_table(ConstBytes bytes, const Uuid& volume,
                                     const ChunkTableLimits& limits) {
  ByteReader whole(bytes, Errc::bad_chunk_table);
  TRY(auto header, whole.object<ChunkTableHeader>());
  if (header.magic != format::kChunkTableMagic) return bad("no magic");
  if (header.length < sizeof(header) || header.length > kChunkTableMaxBytes ||
      header.length > bytes.size()) {
    return bad("length {} is impossible", uint32_t{header.length});
  }
  bytes = bytes.first(header.length);
  if (checksum_without_field(bytes) != header.checksum) return bad("checksum does not match");
  if (header.version != format::kChunkTableVersion) {
    return bad("version {} is not known to this program", uint16_t{header.version});
  }
  if (header.volume != volume.bytes) return bad("belongs to another volume");
  if (header.generation != limits.generation.value) {
    return bad("has generation {}, the superblock says {}", uint64_t{header.generation},
               limits.generation.value);
  }
  if (!format::all_zero(header.reserved)) return bad("reserved bytes are not zero");
  ByteReader reader(bytes.subspan(sizeof(header)), Errc::bad_chunk_table);
  ChunkList chunks;
  for (unsigned i = 0; i < header.chunk_count; ++i) {
    TRY(auto chunk, get_chunk(reader));
    chunks.push_back(std::move(chunk));
  }
  if (!reader.at_end()) return bad("{} bytes follow the last chunk", reader.left());
  TRY(validate_chunks(chunks, limits));
  return chunks;
}

std::string describe(const ChunkList& chunks) {
  std::string out;
  for (const auto& chunk : chunks) {
    out += fmt::format("chunk {:#x} length {} ({}) {} {} born {}\n", chunk->start.value,
                       chunk->length, human_size(chunk->length), name_of(chunk->kind),
                       name_of(chunk->profile), chunk->birth.value);
    for (size_t i = 0; i < chunk->stripes.size(); ++i) {
      const Stripe& stripe = chunk->stripes[i];
      out += fmt::format("  stripe {} devid {} offset {} born {}\n", i, stripe.device.value,
                         stripe.offset.value, stripe.birth.value);
    }
  }
  return out;
}

Result<ChunkList> read_chunk_table(IoEngine& engine, Device& device, const Superblock& superblock,
                                   const std::vector<DeviceEntry>& devices) {
  const ChunkTableRef& ref = superblock.chunk_table;
  AlignedBuffer buffer(round_up(ref.length, kBlockSize));
  TRY(engine.read(device, kChunkTableOffsets[ref.slot], buffer.span()));
  ConstBytes blob = buffer.span().first(ref.length);
  if (checksum_of(blob) != ref.checksum) {
    return Error(Errc::checksum_mismatch,
                 fmt::format("{}: the chunk table in slot {} is not the one that the superblock "
                             "names",
                             device.path(), ref.slot));
  }
  TRY(auto chunks, decode_chunk_table(blob, superblock.volume,
                                      {devices, superblock.next_logical, ref.generation}));
  if ((superblock.incompatible_features & format::kFeatureManyCopies) == 0) {
    for (const auto& chunk : chunks) {
      if (!has_many_copies(chunk->profile)) continue;
      return bad_chunk(*chunk, "profile {} does not fit the features of the superblock",
                       name_of(chunk->profile));
    }
  }
  return chunks;
}

}  // namespace moltfs::alloc
