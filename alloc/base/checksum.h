// SPDX-License-Identifier: MIT
// The checksum of all structures and data on disk, and a seeded hash for names.
#pragma once

#include <cstdint>
#include <string_view>

#include "alloc/base/buffer.h"

namespace moltfs {

/// XXH3-64 of `bytes`, seed 0.
uint64_t checksum_of(ConstBytes bytes);
/// XXH3-64 with a seed, for hashing names.
uint64_t hash_of(std::string_view text, uint64_t seed);

}  // namespace moltfs
