// SPDX-License-Identifier: MIT
// Spans of bytes, and memory from which direct I/O can read and write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "alloc/base/strong_types.h"

namespace moltfs {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

/// Memory aligned to 4096 bytes, as direct I/O requires. Its content is undefined at first. Buffers
/// of up to 1 MiB + 4 KiB come from a pool of the process. Throws std::bad_alloc without memory.
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

}  // namespace moltfs
