// SPDX-License-Identifier: MIT
// Whether AddressSanitizer is on. gcc defines a macro, clang has a feature test.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define MOLTFS_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MOLTFS_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef MOLTFS_ADDRESS_SANITIZER
#define MOLTFS_ADDRESS_SANITIZER 0
#endif

namespace moltfs {

inline constexpr bool kAddressSanitizer = MOLTFS_ADDRESS_SANITIZER != 0;

}  // namespace moltfs
