// SPDX-License-Identifier: MIT
// The text and the bar.
#include "fs/tool/progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/size_text.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

constexpr auto kLineInterval = std::chrono::seconds(5);

}  // namespace

std::string duration_text(uint64_t seconds) {
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
}

std::string progress_text(const Json& status) {
  std::string text = fmt::format(
      "{:.1f} %, {} of {}, {}/s", status.real("percent"), human_size(status.number("bytes_copied")),
      human_size(status.number("bytes_total")), human_size(status.number("rate")));
  if (const auto eta = status.optional_number("eta_seconds")) {
    text += fmt::format(", {} left", duration_text(*eta));
  }
  return text;
}

void Progress::show(const Json& status) {
  const std::string text = progress_text(status);
  if (line_.is_terminal()) {
    const size_t columns = line_.columns();
    const size_t width =
        columns > text.size() + 14 ? std::min<size_t>(columns - text.size() - 4, 40) : 0;
    std::string bar;
    if (width != 0) {
      const auto full = static_cast<size_t>(std::clamp(status.real("percent"), 0.0, 100.0) / 100 *
                                            static_cast<double>(width));
      bar = "[" + std::string(full, '#') + std::string(width - full, '.') + "] ";
    }
    return line_.draw(bar + text);
  }
  const auto now = std::chrono::steady_clock::now();
  if (printed_ && now - *printed_ < kLineInterval) return;
  printed_ = now;
  print_note("{}: {}\n", status.text("state"), text);
  fflush(stdout);
}

void Progress::end() {
  line_.erase();
}

}  // namespace moltfs::fs::tool
