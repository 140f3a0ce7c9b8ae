// SPDX-License-Identifier: MIT
// Recognising UTF-8.
#include "alloc/base/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace moltfs {

// The ranges are those of table 3-7 of the Unicode standard.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xC2 ? 0
                        : lead < 0xE0 ? 2
                        : lead < 0xF0 ? 3
                        : lead < 0xF5 ? 4
                                      : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and code points above U+10FFFF.
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) >= 0xA0) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) >= 0x90) return 0;
  return length;
}

std::string_view utf8_prefix(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  size_t end = bytes_max;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

char32_t code_point(std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return lead;
  // The lead byte of a sequence of n bytes has n ones, then a zero, in front of the number.
  char32_t value = lead & (0x7F >> sequence.size());
  for (const char next : sequence.substr(1)) {
    value = value << 6 | (static_cast<unsigned char>(next) & 0x3F);
  }
  return value;
}

// The property Default_Ignorable_Code_Point of Unicode 15, and what it lacks of control characters
// (Cc), separators (Zl, Zp) and interlinear annotations (in Cf).
bool is_invisible(char32_t c) {
  struct Range {
    char32_t first, last;
  };
  static constexpr Range kRanges[] = {
      {0x0000, 0x001F},   {0x007F, 0x009F},   {0x00AD, 0x00AD},   {0x034F, 0x034F},
      {0x061C, 0x061C},   {0x115F, 0x1160},   {0x17B4, 0x17B5},   {0x180B, 0x180F},
      {0x200B, 0x200F},   {0x2028, 0x202E},   {0x2060, 0x206F},   {0x3164, 0x3164},
      {0xFE00, 0xFE0F},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB},
      {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
  };
  const auto* const range =
      std::find_if(std::begin(kRanges), std::end(kRanges), [&](Range r) { return c <= r.last; });
  return range != std::end(kRanges) && c >= range->first;
}

std::string printable(std::string_view text, std::string_view also) {
  std::string out;
  while (!text.empty()) {
    const size_t valid = utf8_length(text);
    const std::string_view character = text.substr(0, std::max<size_t>(valid, 1));
    const bool is_shown = valid != 0 && !is_invisible(code_point(character)) &&
                          also.find(text[0]) == std::string_view::npos;
    for (const char byte : character) {
      out += is_shown ? std::string(1, byte)
                      : fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    }
    text.remove_prefix(character.size());
  }
  return out;
}

}  // namespace moltfs
