// SPDX-License-Identifier: MIT
// Names, paths and labels are bytes that need not be UTF-8. This is for showing them to people.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moltfs {

/// Length in bytes of the valid UTF-8 sequence at the front of `text`, which is not empty; 0 if
/// there is none.
size_t utf8_length(std::string_view text);

/// The front of `text`, which is UTF-8: at most `bytes_max` bytes, and not a part of a character.
std::string_view utf8_prefix(std::string_view text, size_t bytes_max);

/// The code point of `sequence`, one valid UTF-8 sequence.
char32_t code_point(std::string_view sequence);

/// True if a person cannot see `c` where it stands, or it changes how other characters are shown:
/// control characters, line and paragraph separators, bidirectional controls, and all others that
/// Unicode calls default-ignorable (such as zero-width spaces, joiners, variation selectors and tags).
bool is_invisible(char32_t c);

/// `text` so that a terminal shows all of it and obeys none of it: the bytes of invisible characters
/// and bytes that are not UTF-8 become \xNN. `also`: further ASCII characters to be written so.
std::string printable(std::string_view text, std::string_view also = {});

}  // namespace moltfs
