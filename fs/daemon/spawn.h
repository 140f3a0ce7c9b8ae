// SPDX-License-Identifier: MIT
// Running another program to its end.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// Runs the program words[0], found by PATH, and waits for it. Returns its exit status, -1 if it
/// was killed. `silent`: its output is discarded. Errors: those of starting it.
Result<int> run_program(std::vector<std::string> words, bool silent = false);

}  // namespace moltfs::fs::daemon
