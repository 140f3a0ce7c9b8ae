// SPDX-License-Identifier: MIT
// Sizes as people read and write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moltfs {

/// "4.0 GiB", "512 B": for messages.
std::string human_size(uint64_t bytes);
/// "64M", "1.5GiB", "4096": bytes, powers of 1024; nothing if it is not a size or overflows.
std::optional<uint64_t> parse_size(std::string_view text);

}  // namespace moltfs
