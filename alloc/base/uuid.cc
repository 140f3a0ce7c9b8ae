// SPDX-License-Identifier: MIT
// Formatting, parsing and generating uuids.
#include "alloc/base/uuid.h"

#include <fmt/format.h>

namespace moltfs {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Uuid::to_string() const {
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid uuid;
  size_t at = 0;
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (at == 8 || at == 13 || at == 18 || at == 23) {
      if (text[at++] != '-') return std::nullopt;
    }
    const int high = hex_digit(text[at++]);
    const int low = hex_digit(text[at++]);
    if (high < 0 || low < 0) return std::nullopt;
    uuid.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return uuid;
}

Uuid Uuid::generate(Runtime& runtime) {
  Uuid uuid;
  for (size_t i = 0; i < uuid.bytes.size(); i += 8) {
    const uint64_t bits = runtime.random();
    for (size_t j = 0; j < 8; ++j) uuid.bytes[i + j] = static_cast<uint8_t>(bits >> (8 * j));
  }
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);  // version 4: random
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);  // variant of RFC 4122
  return uuid;
}

}  // namespace moltfs
