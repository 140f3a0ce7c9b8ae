// SPDX-License-Identifier: MIT
// Structs of the on-disk format and of the kernel's messages, copied from bytes and to bytes.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

#include "alloc/base/assert.h"
#include "alloc/base/buffer.h"

namespace moltfs {

/// The T at `offset` of `bytes`, which may be longer and need no alignment. Nothing if it does not
/// lie inside `bytes`.
template <class T>
std::optional<T> load(ConstBytes bytes, size_t offset = 0) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

/// The T that `bytes` are. Nothing if they are longer or shorter than one T.
template <class T>
std::optional<T> load_exactly(ConstBytes bytes) {
  return bytes.size() == sizeof(T) ? load<T>(bytes) : std::nullopt;
}

/// Overwrites the bytes at `offset` of `bytes`. REQUIRES: the value fits there.
template <class T>
void store(Bytes bytes, const T& value, size_t offset = 0) {
  static_assert(std::is_trivially_copyable_v<T>);
  ASSERT(offset <= bytes.size() && bytes.size() - offset >= sizeof(T));
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

/// The bytes of `value`, for writing; valid as long as `value` is.
template <class T>
ConstBytes object_bytes(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace moltfs
