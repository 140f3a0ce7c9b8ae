// SPDX-License-Identifier: MIT
// Identifiers of volumes and devices.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "alloc/base/runtime.h"

namespace moltfs {

struct Uuid {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Uuid&) const = default;
  bool is_nil() const { return *this == Uuid{}; }
  std::string to_string() const;  ///< 8-4-4-4-12, lower case
  /// Of the form of to_string(), in upper or lower case; nothing otherwise.
  static std::optional<Uuid> parse(std::string_view text);
  static Uuid generate(Runtime& runtime);  ///< version 4
};

}  // namespace moltfs
