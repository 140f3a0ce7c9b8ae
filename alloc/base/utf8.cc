// SPDX-License-Identifier: MIT
// Recognising UTF-8.
#include "alloc/base/utf8.h"

#include <fmt/format.h>

#include <algorithm>

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

std::string printable(std::string_view text, std::string_view also) {
  std::string out;
  while (!text.empty()) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const size_t length = std::max<size_t>(utf8_length(text), 1);
    const bool is_control =
        byte(0) < 0x20 || byte(0) == 0x7F || (length == 2 && byte(0) == 0xC2 && byte(1) < 0xA0);
    const bool is_shown =
        utf8_length(text) != 0 && !is_control && also.find(text[0]) == std::string_view::npos;
    for (size_t i = 0; i < length; ++i) {
      out += is_shown ? std::string(1, text[i]) : fmt::format("\\x{:02x}", byte(i));
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace moltfs
