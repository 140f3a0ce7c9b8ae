// SPDX-License-Identifier: MIT
// Sizes written and parsed.
#include "alloc/base/size_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <limits>

namespace moltfs {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr std::string_view kUnits = "BKMGTPE";

/// 0 for "" and "B", 10 for "K", "KB" and "KiB", and so on, in upper or lower case. Nothing for any
/// other suffix.
std::optional<unsigned> shift_of_suffix(std::string_view suffix) {
  if (suffix.empty()) return 0;
  const auto upper = [](char c) { return static_cast<char>(std::toupper(c)); };
  const size_t unit = kUnits.find(upper(suffix[0]));
  if (unit == std::string_view::npos) return std::nullopt;
  std::string rest(suffix.substr(1));
  std::transform(rest.begin(), rest.end(), rest.begin(), upper);
  const bool known = rest.empty() || (unit > 0 && (rest == "B" || rest == "IB"));
  if (!known) return std::nullopt;
  return static_cast<unsigned>(unit * 10);
}

}  // namespace

std::string human_size(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double size = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (size >= 1023.95 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}iB", size, kUnits[unit]);
}

std::optional<uint64_t> parse_size(std::string_view text) {
  using Wide = unsigned __int128;
  constexpr Wide kMax = std::numeric_limits<uint64_t>::max();
  size_t at = 0;
  Wide whole = 0;
  while (at < text.size() && is_digit(text[at])) {
    whole = whole * 10 + static_cast<unsigned>(text[at++] - '0');
    if (whole > kMax) return std::nullopt;
  }
  if (at == 0) return std::nullopt;

  Wide fraction = 0, scale = 1;  // the digits after the point are fraction / scale
  const bool has_point = at < text.size() && text[at] == '.';
  if (has_point) {
    const size_t first = ++at;
    for (; at < text.size() && is_digit(text[at]); ++at) {
      if (at - first >= 12) continue;  // the rest is less than a byte, except with E
      fraction = fraction * 10 + static_cast<unsigned>(text[at] - '0');
      scale *= 10;
    }
    if (at == first) return std::nullopt;
  }

  const auto shift = shift_of_suffix(text.substr(at));
  if (!shift || (has_point && *shift == 0)) return std::nullopt;
  const Wide size = (whole << *shift) + (fraction << *shift) / scale;
  if (size > kMax) return std::nullopt;
  return static_cast<uint64_t>(size);
}

}  // namespace moltfs
