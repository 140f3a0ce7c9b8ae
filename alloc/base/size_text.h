// SPDX-License-Identifier: MIT
// Sizes as people read and write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moltfs {

/// For messages: "4.0 GiB", "512 B".
std::string human_size(uint64_t bytes);
/// Bytes of "64M", "1.5GiB", "4096"; units are powers of 1024. Nothing if `text` is not a size or
/// does not fit 64 bits.
std::optional<uint64_t> parse_size(std::string_view text);

}  // namespace moltfs
