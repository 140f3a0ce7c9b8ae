// SPDX-License-Identifier: MIT
// ASSERT: for programmers' errors. It stays on in release builds. What comes from a disk, the
// kernel or a user must never trip it.
#pragma once

namespace moltfs {
/// Logs the expression and its place, then aborts.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace moltfs

#define ASSERT(expression)                            \
  (__builtin_expect(static_cast<bool>(expression), 1) \
       ? static_cast<void>(0)                         \
       : ::moltfs::assertion_failed(#expression, __FILE__, __LINE__))
