// SPDX-License-Identifier: MIT
// What a failed ASSERT does.
#include "alloc/base/assert.h"

#include <cstdlib>

#include "alloc/base/log.h"

namespace moltfs {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  log_error("assertion failed: {} ({}:{})", expression, file, line);
  std::abort();
}

}  // namespace moltfs
