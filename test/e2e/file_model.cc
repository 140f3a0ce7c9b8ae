// SPDX-License-Identifier: MIT
// A file in memory.
#include "test/e2e/file_model.h"

#include <algorithm>
#include <cstddef>

namespace e2e {
namespace {

/// Files of that size may be kept without blocks: then all of them is data.
constexpr uint64_t kSmall = kBlock;

uint64_t block_up(uint64_t at) {
  return (at + kBlock - 1) / kBlock * kBlock;
}

}  // namespace

FileModel::FileModel(uint64_t max_size, bool tracking)
    : max_size_(max_size), tracking_(tracking), blocks_(block_up(max_size) / kBlock, Block::hole) {
  if (tracking) possible_.resize(max_size, Values(1));
}

/// The bytes of [first, end) were what they are now, at some time since the last sync.
void FileModel::note(uint64_t first, uint64_t end) {
  if (!tracking_) return;
  for (uint64_t at = first; at < end; ++at) {
    possible_[at].set(at < size() ? static_cast<unsigned char>(bytes_[at]) : 0);
  }
}

void FileModel::note_size() {
  least_size_ = std::min(least_size_, size());
  most_size_ = std::max(most_size_, size());
}

void FileModel::grow(uint64_t new_size) {
  if (new_size <= size()) return;
  const uint64_t old = size();
  if (old > 0 && old <= kSmall && blocks_[0] == Block::hole) blocks_[0] = Block::unknown;
  bytes_.resize(new_size, '\0');
  note(old, new_size);
  note_size();
}

void FileModel::write(uint64_t offset, std::string_view bytes) {
  if (bytes.empty()) return;
  grow(offset + bytes.size());
  bytes.copy(bytes_.data() + offset, bytes.size());
  note(offset, offset + bytes.size());
  for (uint64_t b = offset / kBlock; b * kBlock < offset + bytes.size(); ++b) {
    blocks_[b] = Block::data;
  }
}

void FileModel::copy(uint64_t offset, std::string_view bytes) {
  write(offset, bytes);
  for (uint64_t b = offset / kBlock; b * kBlock < offset + bytes.size(); ++b) {
    blocks_[b] = Block::unknown;
  }
}

void FileModel::resize(uint64_t new_size) {
  if (new_size >= size()) return grow(new_size);
  const uint64_t old = size();
  bytes_.resize(new_size);
  note(new_size, old);
  note_size();
  for (uint64_t b = block_up(new_size) / kBlock; b < blocks_.size(); ++b) blocks_[b] = Block::hole;
}

/// Whole blocks become holes; a block that is cut, or that the end of the file cuts, may.
void FileModel::make_holes(uint64_t first, uint64_t end) {
  for (uint64_t b = first / kBlock; b * kBlock < end && b < blocks_.size(); ++b) {
    if (blocks_[b] == Block::hole) continue;
    const bool is_whole = b * kBlock >= first && (b + 1) * kBlock <= end;
    const bool is_small = b == 0 && size() <= kSmall;
    if (is_whole && !is_small) {
      blocks_[b] = Block::hole;
    } else if (is_small || (b * kBlock >= first && end >= size())) {
      blocks_[b] = Block::unknown;
    }
  }
}

FileModel::Block FileModel::known_as(uint64_t number, Block what) const {
  return blocks_[number] == what ? what : Block::unknown;
}

void FileModel::punch(uint64_t first, uint64_t end) {
  make_holes(first, end);
  const uint64_t stop = std::min(end, size());
  if (first >= stop) return;
  std::fill(bytes_.begin() + static_cast<ptrdiff_t>(first),
            bytes_.begin() + static_cast<ptrdiff_t>(stop), '\0');
  note(first, stop);
}

void FileModel::zero_range(uint64_t first, uint64_t end, bool keep_size) {
  punch(first, end);
  allocate(end, keep_size);
  // A block of which only a part is zeroed may be written for it.
  if (first % kBlock != 0) blocks_[first / kBlock] = known_as(first / kBlock, Block::data);
  if (end % kBlock != 0) blocks_[end / kBlock] = known_as(end / kBlock, Block::data);
}

void FileModel::allocate(uint64_t end, bool keep_size) {
  if (!keep_size) grow(end);
}

void FileModel::synced() {
  if (!tracking_) return;
  for (uint64_t at = 0; at < max_size_; ++at) possible_[at].reset();
  note(0, max_size_);
  least_size_ = most_size_ = size();
}

void FileModel::synced(uint64_t first, uint64_t end) {
  if (!tracking_) return;
  for (uint64_t at = first; at < end; ++at) possible_[at].reset();
  note(first, end);
  // A size that was durable with this range reaches it, until the file is cut again.
  least_size_ = std::max(least_size_, std::min(end, size()));
}

std::string FileModel::fault_after_crash(std::string_view found) const {
  if (found.size() < least_size_ || found.size() > most_size_) {
    return "its size is " + std::to_string(found.size()) + ", not within " +
           std::to_string(least_size_) + " to " + std::to_string(most_size_);
  }
  for (uint64_t at = 0; at < found.size(); ++at) {
    const auto byte = static_cast<unsigned char>(found[at]);
    if (possible_[at].test(byte)) continue;
    return "byte " + std::to_string(at) + " is " + std::to_string(byte) + ", " +
           (possible_[at].count() == 1 ? "it was durable with another value"
                                       : "none of the values it had");
  }
  return {};
}

}  // namespace e2e
