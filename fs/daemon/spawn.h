// SPDX-License-Identifier: MIT
// Running another program to its end.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// Runs words[0], found by PATH; its exit status, -1 if it was killed. `silent`: what it says goes
/// nowhere.
Result<int> run_program(std::vector<std::string> words, bool silent = false);

}  // namespace moltfs::fs::daemon
