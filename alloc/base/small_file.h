// SPDX-License-Identifier: MIT
// Reading files under /proc and /sys. Each of them may be absent, forbidden, or fail when it is read
// (a container may mount a filesystem over it), and a stream of the standard library may then throw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moltfs {

/// The content of the file `path`; nothing if it cannot be opened or read to its end.
std::optional<std::string> read_small_file(const std::string& path);
/// The content, from its beginning, of the file that is open at `fd`. The kernel makes that of a file
/// under /proc or /sys anew each time.
std::optional<std::string> read_small_file(int fd);

/// The number at the beginning of `text`; nothing if there is none.
std::optional<uint64_t> leading_number(std::string_view text);
/// The number at the beginning of the file; nothing if there is none.
std::optional<uint64_t> read_number(const std::string& path);

}  // namespace moltfs
