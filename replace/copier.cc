// SPDX-License-Identifier: MIT
// One window: freeze, list, read, verify, write.
#include "replace/copier.h"

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::replace {

namespace {

/// Gaps up to this size are read as well: that is cheaper than one more request.
constexpr uint64_t kReadOverBytes = 64 * 1024;

/// Appends `range`; extends the last run instead if the gap to it is at most `gap`.
void append_run(std::vector<PhysicalRange>& runs, PhysicalRange range, uint64_t gap) {
  if (!runs.empty() && range.start >= runs.back().end() && range.start - runs.back().end() <= gap) {
    runs.back().length = range.end() - runs.back().start;
  } else {
    runs.push_back(range);
  }
}

uint64_t unit_of(const AllocatedExtent& extent) {
  return extent.is_node ? extent.length : kBlockSize;
}

/// The block of `extent` at `offset` within it, as an extent of its own.
AllocatedExtent block_of(const AllocatedExtent& extent, uint64_t offset) {
  AllocatedExtent block = extent;
  if (extent.is_node) return block;
  block.start += offset;
  block.file_offset += offset;
  block.length = kBlockSize;
  block.checksums = {extent.checksums[offset / kBlockSize]};
  return block;
}

/// What the trees say comes from a disk, so it may be damaged.
bool fits(const AllocatedExtent& extent, const alloc::ChunkPiece& part) {
  return extent.start >= part.logical && extent.length > 0 && extent.length % kBlockSize == 0 &&
         extent.length <= part.length &&
         extent.start - part.logical <= part.length - extent.length &&
         (extent.is_node || extent.checksums.size() == extent.length / kBlockSize);
}

}  // namespace

/// The work on one window.
struct Copier::Window {
  PhysicalRange range;
  Bytes buffer;                           // byte i is the byte of the device at range.start + i
  std::shared_ptr<alloc::Device> source;  // null: it is out
  WindowResult result;
  std::vector<PhysicalRange> good;  // verified, ascending
  Bytes at(PhysicalRange part) const {
    return buffer.subspan(part.start - range.start, part.length);
  }
};

Copier::Copier(alloc::Volume& volume, Host& host, Setup setup)
    : volume_(volume), host_(host), setup_(std::move(setup)) {}

WindowResult Copier::copy(PhysicalRange range, Bytes buffer) {
  ASSERT(buffer.size() >= range.length);
  Window window{range, buffer, volume_.device(setup_.source), {}, {}};
  PhysicalRange left = range;
  while (left.length > 0) {
    // The chunk that the walk saw here may have been removed, and another made in its place.
    auto piece = volume_.space().freeze_stripe(setup_.source, left);
    if (!piece) {
      window.result.failure = piece.error();
      return window.result;
    }
    if (piece.value().chunk == nullptr) break;
    auto copied = copy_piece(window, piece.value());
    if (!copied) window.result.failure = copied.error();
    if (!copied || window.result.target_failure || setup_.give_up()) return window.result;
    const PhysicalOffset next = piece.value().range.end();
    ASSERT(next > left.start);
    left = {next, left.end() - next};
  }
  window.result.done = true;
  return window.result;
}

Result<void> Copier::copy_piece(Window& window, const alloc::Space::FrozenPiece& piece) {
  TRY(auto items, list(window, piece));
  if (items.empty() || setup_.give_up()) return ok();
  if (window.source) {
    read(window, items);
  } else {
    read_another_copy(window, piece, items);
  }
  window.good.clear();
  for (const Item& item : items) {
    verify(window, piece, item);
    if (window.result.failure) return *window.result.failure;
    if (setup_.give_up()) return ok();
  }
  write(window);
  return ok();
}

/// What is allocated in `piece` and lacking on the target, ascending by place.
Result<std::vector<Copier::Item>> Copier::list(Window& window,
                                               const alloc::Space::FrozenPiece& piece) {
  const Generation moved = piece.chunk->stripes[piece.stripe_index].birth;
  std::vector<Item> items;
  for (const auto& part : alloc::pieces_of_stripe(*piece.chunk, piece.stripe_index, piece.range)) {
    TRY(auto extents, host_.allocated_in({part.logical, part.length}));
    for (AllocatedExtent& extent : extents) {
      if (!fits(extent, part)) {
        return Error(Errc::bad_item, "the extent tree is damaged: " + host_.name_of(extent));
      }
      Item item;
      item.at = part.physical + (extent.start - part.logical);
      item.extent = std::move(extent);
      const Generation birth = std::max(item.extent.birth, moved);
      const uint64_t length = item.extent.length;
      if (setup_.coverage.covers(birth, item.at + (length - kBlockSize))) {
        window.result.skipped_bytes += length;
        continue;
      }
      if (birth < setup_.walk_before && item.at < setup_.started_right) {
        window.result.recopied_bytes += length;
      }
      items.push_back(std::move(item));
    }
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.at < b.at; });
  return items;
}

void Copier::read(Window& window, std::vector<Item>& items) {
  std::vector<PhysicalRange> runs;
  for (const Item& item : items) append_run(runs, item.range(), kReadOverBytes);
  std::vector<alloc::IoRequest> requests;
  for (PhysicalRange run : runs) {
    requests.push_back(
        alloc::IoRequest::make_read(window.source.get(), run.start.value, window.at(run)));
  }
  volume_.engine().run(requests);
  auto item = items.begin();
  for (size_t i = 0; i < runs.size(); ++i) {
    for (; item != items.end() && item->at < runs[i].end(); ++item) {
      item->read_failed = !requests[i].result.has_value();
    }
  }
}

/// The source is out: reads a copy that is on another device, if there is one. Neighbouring windows
/// take different copies.
void Copier::read_another_copy(Window& window, const alloc::Space::FrozenPiece& piece,
                               std::vector<Item>& items) {
  const alloc::Chunk& chunk = *piece.chunk;
  const unsigned own_copy = piece.stripe_index % chunk.copies;
  const unsigned first_of_column = piece.stripe_index - own_copy;
  const alloc::MapGuard guard = volume_.acquire_map();
  std::vector<unsigned> copies;
  for (unsigned copy = 0; copy < chunk.copies; ++copy) {
    const DeviceId device = chunk.stripes[first_of_column + copy].device;
    if (copy != own_copy && guard.map().devices().count(device) != 0) copies.push_back(copy);
  }
  for (Item& item : items) item.read_failed = true;
  if (copies.empty()) return;
  // Each run is contiguous on the source, and by logical address.
  std::vector<PhysicalRange> runs;
  std::vector<LogicalOffset> starts;
  for (const Item& item : items) {
    const bool continues = !runs.empty() && item.at >= runs.back().end() &&
                           item.extent.start >= starts.back() &&
                           item.extent.start - starts.back() == item.at - runs.back().start;
    append_run(runs, item.range(), continues ? kReadOverBytes : 0);
    if (runs.size() > starts.size()) starts.push_back(item.extent.start);
  }
  std::vector<alloc::LogicalRead> reads;
  for (size_t i = 0; i < runs.size(); ++i) reads.push_back({starts[i], window.at(runs[i])});
  const uint64_t window_number =
      window.range.start.value / std::max<uint64_t>(window.range.length, 1);
  volume_.read_batch(guard, reads, copies[window_number % copies.size()]);
  auto item = items.begin();
  for (size_t i = 0; i < runs.size(); ++i) {
    for (; item != items.end() && item->at < runs[i].end(); ++item) {
      item->read_failed = !reads[i].result.has_value();
    }
  }
}

/// Adds to `good` what is right in the buffer, after repairs if necessary.
void Copier::verify(Window& window, const alloc::Space::FrozenPiece& piece, const Item& item) {
  uint64_t first_bad = 0;
  if (!item.read_failed && host_.matches(item.extent, window.at(item.range()), first_bad)) {
    append_run(window.good, item.range(), 0);
    return;
  }
  const unsigned own_copy = piece.stripe_index % piece.chunk->copies;
  const uint64_t unit = unit_of(item.extent);
  for (uint64_t offset = 0; offset < item.extent.length; offset += unit) {
    const AllocatedExtent block = block_of(item.extent, offset);
    const PhysicalRange range{item.at + offset, unit};
    const Bytes bytes = window.at(range);
    bool right = !item.read_failed && host_.matches(block, bytes, first_bad);
    std::optional<Error> gone;
    if (!right && setup_.give_up()) return;
    if (!right && window.source) {  // read again: the error may have been transient
      const auto read = volume_.engine().read(*window.source, range.start.value, bytes);
      if (!read && read.error() == Errc::device_gone) gone = read.error();
      right = read && host_.matches(block, bytes, first_bad);
    }
    if (right) {
      append_run(window.good, range, 0);
    } else if (recover(block, own_copy, bytes)) {
      ++window.result.read_corrected;
      append_run(window.good, range, 0);
    } else if (gone) {  // the block is not lost
      window.result.failure = *gone;
      return;
    } else {
      if (window.result.unreadable.empty()) window.result.first_unreadable = host_.name_of(block);
      window.result.unreadable.push_back(range);
    }
  }
}

/// Reads `block` from the chunk's other copies until one is right. False: none is.
bool Copier::recover(const AllocatedExtent& block, unsigned own_copy, Bytes into) {
  const alloc::MapGuard guard = volume_.acquire_map();
  const unsigned copies = volume_.copies_at(guard, block.start);
  uint64_t first_bad = 0;
  for (unsigned copy = 0; copy < copies; ++copy) {
    if (copy == own_copy) continue;
    if (!volume_.read(guard, block.start, into, copy)) continue;
    if (host_.matches(block, into, first_bad)) return true;
  }
  return false;
}

/// Writes `good` to the target; one request for neighbours.
void Copier::write(Window& window) {
  std::vector<alloc::IoRequest> requests;
  for (PhysicalRange run : window.good) {
    requests.push_back(
        alloc::IoRequest::make_write(setup_.target.get(), run.start.value, window.at(run)));
  }
  volume_.engine().run(requests);
  for (const alloc::IoRequest& request : requests) {
    if (!request.result) {
      window.result.target_failure = request.result.error();
      return;
    }
    window.result.copied_bytes += request.length;
  }
}

}  // namespace moltfs::replace
