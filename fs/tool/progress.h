// SPDX-License-Identifier: MIT
// Shows the progress of a replace: a bar on a terminal, otherwise a line every few seconds.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "alloc/base/json.h"
#include "fs/tool/terminal_line.h"

namespace moltfs::fs::tool {

/// "43.1 %, 1.2 GiB of 2.8 GiB, 312.0 MiB/s, 5 s left". The sizes are those of the bytes to copy,
/// not of the device. `status`: keys as in replace/README.md.
std::string progress_text(const Json& status);
/// "5 s", "3 min 20 s", "2 h 5 min".
std::string duration_text(uint64_t seconds);

class Progress {
 public:
  void show(const Json& status);
  /// Erases the bar. To be called before other output.
  void end();

 private:
  TerminalLine line_{stdout};
  std::optional<std::chrono::steady_clock::time_point> printed_;
};

}  // namespace moltfs::fs::tool
