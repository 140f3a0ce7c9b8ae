// SPDX-License-Identifier: MIT
// Finding chunks by logical address and by device.
#include "alloc/disk/chunk.h"

#include <algorithm>

namespace moltfs::alloc {

namespace {

struct ProfileTraits {
  std::string_view name;
  unsigned copies;
  size_t devices;  // that a chunk needs
};

ProfileTraits traits_of(Profile profile) {
  switch (profile) {
    case Profile::single:
      return {"single", 1, 1};
    case Profile::dup:
      return {"dup", 2, 1};
    case Profile::raid1:
      return {"raid1", 2, 2};
    case Profile::raid1c3:
      return {"raid1c3", 3, 3};
    case Profile::raid1c4:
      return {"raid1c4", 4, 4};
    case Profile::raid0:
      return {"raid0", 1, 2};
    case Profile::raid10:
      return {"raid10", 2, 4};
  }
  return {"unknown", 1, 1};
}

}  // namespace

std::string_view name_of(ChunkKind kind) {
  switch (kind) {
    case ChunkKind::data:
      return "data";
    case ChunkKind::metadata:
      return "metadata";
  }
  return "unknown";
}

std::string_view name_of(Profile profile) {
  return traits_of(profile).name;
}

unsigned copies_of(Profile profile) {
  return traits_of(profile).copies;
}

size_t devices_needed(Profile profile) {
  return traits_of(profile).devices;
}

std::optional<Profile> profile_named(std::string_view name) {
  for (const Profile profile : kAllProfiles) {
    if (name_of(profile) == name) return profile;
  }
  return std::nullopt;
}

unsigned losses_survived(Profile profile) {
  return profile == Profile::dup ? 0 : copies_of(profile) - 1;
}

const Chunk* find_chunk(const ChunkList& chunks, LogicalOffset at) {
  auto after = std::upper_bound(
      chunks.begin(), chunks.end(), at,
      [](LogicalOffset offset, const auto& chunk) { return offset < chunk->start; });
  if (after == chunks.begin()) return nullptr;
  const Chunk* chunk = std::prev(after)->get();
  return at - chunk->start < chunk->length ? chunk : nullptr;
}

std::vector<DeviceExtent> device_extents(const ChunkList& chunks, DeviceId device) {
  std::vector<DeviceExtent> extents;
  for (const auto& chunk : chunks) {
    for (uint32_t i = 0; i < chunk->stripes.size(); ++i) {
      const Stripe& stripe = chunk->stripes[i];
      if (stripe.device != device) continue;
      extents.push_back({chunk, i, {stripe.offset, chunk->stripe_length()}});
    }
  }
  std::sort(extents.begin(), extents.end(),
            [](const auto& a, const auto& b) { return a.range.start < b.range.start; });
  return extents;
}

std::vector<ChunkPiece> pieces_of_stripe(const Chunk& chunk, uint32_t stripe_index,
                                         PhysicalRange range) {
  const PhysicalOffset stripe = chunk.stripes[stripe_index].offset;
  const PhysicalOffset begin = std::max(range.start, stripe);
  const PhysicalOffset end = std::min(range.end(), stripe + chunk.stripe_length());
  std::vector<ChunkPiece> pieces;
  if (begin >= end) return pieces;

  const uint32_t columns = chunk.columns();
  if (columns == 1) return {{chunk.start + (begin - stripe), begin, end - begin}};

  const uint64_t unit = chunk.stripe_unit;
  const uint32_t column = stripe_index / chunk.copies;
  for (PhysicalOffset at = begin; at < end;) {
    const uint64_t row = (at - stripe) / unit;
    const uint64_t within = (at - stripe) % unit;
    const uint64_t length = std::min(unit - within, end - at);
    pieces.push_back({chunk.start + (row * columns + column) * unit + within, at, length});
    at += length;
  }
  return pieces;
}

}  // namespace moltfs::alloc
