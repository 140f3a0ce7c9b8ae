// SPDX-License-Identifier: MIT
// Byte buffers for direct I/O, checksums, uuids and the way sizes are written for people.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "alloc/base/runtime.h"

namespace moltfs {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

/// Memory aligned to 4096 bytes, so that it can go to a device as it is. Contents start undefined.
/// Buffers up to 1 MiB + 4 KiB come from a process-wide pool.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size);
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  Bytes span() { return {data_, size_}; }
  ConstBytes span() const { return {data_, size_}; }
  void fill_zero();

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

inline bool is_aligned(const void* p, size_t alignment = kBlockSize) {
  return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

/// XXH3-64 of `bytes`.
uint64_t checksum_of(ConstBytes bytes);
/// XXH3-64 with a seed, for hashing names.
uint64_t hash_of(std::string_view text, uint64_t seed);

struct Uuid {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
  bool is_nil() const { return *this == Uuid{}; }
  std::string to_string() const;  ///< 8-4-4-4-12, lower case
  static std::optional<Uuid> parse(std::string_view text);
  static Uuid generate(Runtime& runtime);  ///< version 4
};

/// "4.0 GiB", "512 B": for messages.
std::string human_size(uint64_t bytes);
/// "64M", "1.5GiB", "4096": bytes, powers of 1024; nothing if it is not a size or overflows.
std::optional<uint64_t> parse_size(std::string_view text);

}  // namespace moltfs
