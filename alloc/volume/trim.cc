// SPDX-License-Identifier: MIT
// Trimming, window by window.
#include "alloc/volume/trim.h"

#include <algorithm>

namespace moltfs::alloc {
namespace {

constexpr uint64_t kWindowBytes = 32 << 20;

}  // namespace

Result<uint64_t> trim(Volume& volume, const TrimRequest& request) {
  if (volume.read_only()) return Errc::read_only;
  if (!volume.can_discard()) return Errc::not_supported;
  if (request.length < kBlockSize) return Errc::invalid_argument;
  if (request.start >= volume.space().usage().device_bytes) return Errc::invalid_argument;
  const uint64_t end = request.start + std::min(request.length, ~uint64_t{0} - request.start);
  volume.space().load_data();
  uint64_t discarded = 0, position = 0;
  for (const auto& chunk : volume.space().data_chunks_from(LogicalOffset(0)).first) {
    const uint64_t first = std::max(round_up(request.start, kBlockSize), position);
    const uint64_t last = std::min(round_down(end, kBlockSize), position + chunk->length);
    for (uint64_t at = first; at < last;) {
      const uint64_t length = std::min(kWindowBytes, last - at);
      const LogicalRange window{chunk->start + (at - position), length};
      const auto pieces = volume.space().freeze_free(window, request.min_bytes);
      discarded += volume.discard(pieces.ranges);
      at += length;
    }
    position += chunk->length;
  }
  return discarded;
}

}  // namespace moltfs::alloc
