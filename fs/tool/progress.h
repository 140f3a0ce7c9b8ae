// SPDX-License-Identifier: MIT
// How far a replace is, for people: a bar on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "fs/tool/json.h"

namespace moltfs::fs::tool {

/// "43.1 %, 1.2 GiB of 2.8 GiB, 312.0 MiB/s, 5 s left": of the bytes to copy, not of the device.
std::string progress_text(const Json& status);
/// "5 s", "3 min 20 s", "2 h 5 min".
std::string duration_text(uint64_t seconds);

class Progress {
 public:
  Progress();
  void show(const Json& status);
  /// Ends the line that the bar is on.
  void end();

 private:
  const bool terminal_;
  bool drawn_ = false;
  std::optional<std::chrono::steady_clock::time_point> printed_;
};

}  // namespace moltfs::fs::tool
