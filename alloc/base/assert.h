// SPDX-License-Identifier: MIT
// ASSERT: for what a programmer got wrong; stays on in release. What comes from a disk, the kernel
// or a user never trips it.
#pragma once

namespace moltfs {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define ASSERT(expression)                            \
  (__builtin_expect(static_cast<bool>(expression), 1) \
       ? static_cast<void>(0)                         \
       : ::moltfs::assertion_failed(#expression, __FILE__, __LINE__))
