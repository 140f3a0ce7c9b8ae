// SPDX-License-Identifier: MIT
// What a file should hold after a sequence of changes: every byte, which blocks are data and which
// are holes, and, for after a crash, which bytes may be there instead.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace e2e {

inline constexpr uint64_t kBlock = 4096;

class FileModel {
 public:
  /// What SEEK_DATA must say of a block; unknown: either.
  enum class Block : uint8_t { hole, data, unknown };

  /// `tracking`: remember what each byte was since the last synced().
  explicit FileModel(uint64_t max_size, bool tracking = false);

  uint64_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }
  Block block(uint64_t number) const { return blocks_[number]; }

  // No change may reach beyond max_size.
  void write(uint64_t offset, std::string_view bytes);
  void resize(uint64_t size);
  void punch(uint64_t first, uint64_t end);
  void zero_range(uint64_t first, uint64_t end, bool keep_size);
  void allocate(uint64_t end, bool keep_size);
  /// Copies like a write, but holes may stay holes.
  void copy(uint64_t offset, std::string_view bytes);

  /// The whole file is durable.
  void synced();
  /// The range [first, end) is durable.
  void synced(uint64_t first, uint64_t end);
  /// Why a crash cannot have left `found`; empty if it can. REQUIRES: tracking.
  std::string fault_after_crash(std::string_view found) const;

 private:
  using Values = std::bitset<256>;
  Block known_as(uint64_t number, Block what) const;
  void grow(uint64_t size);
  void make_holes(uint64_t first, uint64_t end);
  void note(uint64_t first, uint64_t end);
  void note_size();

  const uint64_t max_size_;
  const bool tracking_;
  std::string bytes_;
  std::vector<Block> blocks_;
  std::vector<Values> possible_;  // by offset; since the last synced()
  uint64_t least_size_ = 0, most_size_ = 0;
};

}  // namespace e2e
