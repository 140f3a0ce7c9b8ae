// SPDX-License-Identifier: MIT
// Choosing the places, and reading them.
#include "alloc/device/blank.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "alloc/base/buffer.h"

namespace moltfs::alloc {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kReadWhole = 256 * kMiB;
constexpr uint64_t kEndBytes = 16 * kMiB;
constexpr uint64_t kReach = 64 * 1024;  // before and after a place
constexpr uint64_t kPlaces = 1024;
constexpr uint64_t kGroup = 128 * kMiB, kGroupsEnd = 8192 * kMiB;
/// A file in more pieces is sampled like a block device.
constexpr size_t kPiecesMax = 65536;

std::vector<ByteRange> merged(std::vector<ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.start < b.start; });
  std::vector<ByteRange> out;
  for (const ByteRange& range : ranges) {
    if (range.start >= range.end) continue;
    if (!out.empty() && range.start <= out.back().end) {
      out.back().end = std::max(out.back().end, range.end);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

/// Where the file has data, in whole blocks; nothing if the kernel does not tell, or if there are
/// too many pieces.
std::optional<std::vector<ByteRange>> pieces_of(int fd, uint64_t size_bytes) {
  std::vector<ByteRange> pieces;
  for (uint64_t at = 0; at < size_bytes;) {
    const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // a hole up to the end
    const off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    if (hole < 0 || pieces.size() == kPiecesMax) return std::nullopt;
    at = static_cast<uint64_t>(hole);
    pieces.push_back({round_down(static_cast<uint64_t>(data), kBlockSize),
                      std::min(round_up(at, kBlockSize), size_bytes)});
  }
  return merged(std::move(pieces));
}

uint64_t total(const std::vector<ByteRange>& ranges) {
  uint64_t bytes = 0;
  for (const ByteRange& range : ranges) bytes += range.end - range.start;
  return bytes;
}

/// Both lists are ascending and without overlaps.
std::vector<ByteRange> common(const std::vector<ByteRange>& a, const std::vector<ByteRange>& b) {
  std::vector<ByteRange> out;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    const ByteRange both{std::max(a[i].start, b[j].start), std::min(a[i].end, b[j].end)};
    if (both.start < both.end) out.push_back(both);
    ++(a[i].end < b[j].end ? i : j);
  }
  return out;
}

}  // namespace

std::vector<ByteRange> sampled_ranges(uint64_t size_bytes) {
  if (size_bytes <= kReadWhole) return merged({{0, size_bytes}});
  std::vector<ByteRange> ranges = {{0, kEndBytes}, {size_bytes - kEndBytes, size_bytes}};
  const auto add_around = [&](uint64_t place) {
    if (place >= size_bytes) return;
    place = round_down(place, kBlockSize);
    ranges.push_back({place - std::min(place, kReach), std::min(place + kReach, size_bytes)});
  };
  for (uint64_t place = kMiB; place < size_bytes && place != 0; place *= 2) add_around(place);
  for (uint64_t place = kGroup; place <= kGroupsEnd; place += kGroup) add_around(place);
  for (uint64_t i = 0; i < kPlaces; ++i) add_around(size_bytes / kPlaces * i);
  return merged(std::move(ranges));
}

Result<std::optional<uint64_t>> find_data(int fd, uint64_t size_bytes) {
  std::vector<ByteRange> ranges = sampled_ranges(size_bytes);
  if (const auto pieces = pieces_of(fd, size_bytes)) {
    ranges = total(*pieces) <= kReadWhole ? *pieces : common(ranges, *pieces);
  }
  AlignedBuffer buffer(kMiB);
  for (const ByteRange& range : ranges) {
    for (uint64_t at = range.start; at < range.end;) {
      const size_t wanted = std::min<uint64_t>(buffer.size(), range.end - at);
      const ssize_t got = pread(fd, buffer.data(), wanted, static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        const int err = got == 0 ? EIO : errno;
        return Error(Errc::io_error,
                     fmt::format("reading at offset {}: {}", at, text_of_errno(err)));
      }
      const auto* const first = buffer.data();
      const auto* const end = first + got;
      const auto* const data =
          std::find_if(first, end, [](std::byte b) { return b != std::byte{}; });
      if (data != end) return std::optional<uint64_t>(at + static_cast<uint64_t>(data - first));
      at += static_cast<uint64_t>(got);
    }
  }
  return std::optional<uint64_t>();
}

}  // namespace moltfs::alloc
