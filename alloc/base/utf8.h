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

/// `text` so that a terminal shows all of it and obeys none of it: control characters (below
/// U+0020, U+007F to U+009F) and bytes that are not UTF-8 become \xNN. `also`: further ASCII
/// characters to be written so.
std::string printable(std::string_view text, std::string_view also = {});

}  // namespace moltfs
