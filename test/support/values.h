// SPDX-License-Identifier: MIT
// Small helpers that tests of all layers share: results that must be values, bytes and text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/base/uuid.h"
#include "test/support/catch.h"

namespace moltfs::test {

inline constexpr uint64_t kMiB = uint64_t{1} << 20, kGiB = 1024 * kMiB;

/// The value of a result that must be one.
template <class T>
T must(Result<T> result) {
  if (!result) FAIL(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

/// The code of an error; nothing for a success.
template <class T>
std::optional<Errc> code_of(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error().code;
}

inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// All of its bytes are `seed`.
inline Uuid uuid_of(uint8_t seed) {
  Uuid id;
  id.bytes.fill(seed);
  return id;
}

}  // namespace moltfs::test
