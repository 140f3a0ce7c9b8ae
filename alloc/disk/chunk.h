// SPDX-License-Identifier: MIT
// Chunks: ranges of the logical address space, and the stripes that hold their bytes.
//
// A chunk of profile P has `columns` columns, each in `copies` copies:
//   stripes[c * copies + k]  is copy k of column c.
// Logical bytes go round robin over the columns, in units of `stripe_unit` bytes:
//   unit u of the chunk lies in column u % columns, at (u / columns) * stripe_unit of the stripe.
//
//   single   1 column           1 copy
//   dup      1 column           2 copies on one device
//   raid1    1 column           2 copies on two devices
//   raid1c3  1 column           3 copies on three devices
//   raid1c4  1 column           4 copies on four devices
//   raid0    2 columns or more  1 copy
//   raid10   2 columns or more  2 copies on two devices each
//
// Every stripe is length / columns bytes long.
#pragma once

#include <array>
#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/base/strong_types.h"

namespace moltfs::alloc {

enum class ChunkKind : uint8_t { data = 1, metadata = 2 };
enum class Profile : uint8_t {
  single = 1,
  dup = 2,
  raid1 = 3,
  raid0 = 4,
  raid10 = 5,
  raid1c3 = 6,
  raid1c4 = 7
};
/// In the order in which messages list them.
inline constexpr std::array kAllProfiles = {Profile::single,  Profile::dup,     Profile::raid1,
                                            Profile::raid1c3, Profile::raid1c4, Profile::raid0,
                                            Profile::raid10};

std::string_view name_of(ChunkKind kind);
std::string_view name_of(Profile profile);
/// The number of copies of each byte in a chunk of that profile.
unsigned copies_of(Profile profile);
/// The profile with that name, or nothing.
std::optional<Profile> profile_named(std::string_view name);
/// The number of devices that a chunk of that profile needs.
size_t devices_needed(Profile profile);
/// How many devices may be lost, whichever they are, without losing a byte of such a chunk.
unsigned losses_survived(Profile profile);

/// Profiles that programs before them do not know; a feature bit of the superblock announces them.
inline bool has_many_copies(Profile profile) {
  return copies_of(profile) > 2;
}

/// One stripe of a chunk: a range on a device.
struct Stripe {
  DeviceId device;
  PhysicalOffset offset;
  /// The generation in which bytes were first written here: the chunk's birth, or later if the
  /// stripe was moved.
  Generation birth;
  bool operator==(const Stripe&) const = default;
};

struct Chunk {
  LogicalOffset start;
  uint64_t length = 0;  ///< bytes; a multiple of columns * stripe_unit and of kNodeSize
  ChunkKind kind = ChunkKind::data;
  Profile profile = Profile::single;
  Generation birth;
  uint32_t stripe_unit = 64 * 1024;
  uint16_t copies = 1;
  boost::container::small_vector<Stripe, 2> stripes;

  uint32_t columns() const { return static_cast<uint32_t>(stripes.size()) / copies; }
  uint64_t stripe_length() const { return length / columns(); }
  LogicalRange range() const { return {start, length}; }
  bool operator==(const Chunk&) const = default;
};

/// Chunks sorted by start, without overlaps; immutable once published.
using ChunkList = std::vector<std::shared_ptr<const Chunk>>;

/// The chunk that contains `at`, or null.
const Chunk* find_chunk(const ChunkList& chunks, LogicalOffset at);

/// A stripe with its chunk, as found by device.
struct DeviceExtent {
  std::shared_ptr<const Chunk> chunk;
  uint32_t stripe_index = 0;
  PhysicalRange range;
};

/// The stripes on `device`, sorted by physical offset.
std::vector<DeviceExtent> device_extents(const ChunkList& chunks, DeviceId device);

/// A range of a stripe that is contiguous both on the device and in the logical address space.
struct ChunkPiece {
  LogicalOffset logical;
  PhysicalOffset physical;
  uint64_t length = 0;
};

/// The pieces of stripe `stripe_index` of `chunk` that lie within `range` of its device, ascending.
std::vector<ChunkPiece> pieces_of_stripe(const Chunk& chunk, uint32_t stripe_index,
                                         PhysicalRange range);

}  // namespace moltfs::alloc
