// SPDX-License-Identifier: MIT
// Whether this is a build with AddressSanitizer: gcc and clang tell it in different ways.
#pragma once

namespace moltfs {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
inline constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
inline constexpr bool kAddressSanitizer = false;
#endif

}  // namespace moltfs
