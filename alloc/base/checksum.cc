// SPDX-License-Identifier: MIT
// XXH3-64 by libxxhash.
#include "alloc/base/checksum.h"

// With this header XXH3 chooses the widest vector instructions at run time.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

namespace moltfs {

uint64_t checksum_of(ConstBytes bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t hash_of(std::string_view text, uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

}  // namespace moltfs
