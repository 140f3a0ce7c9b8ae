// SPDX-License-Identifier: MIT
// The descriptors 0, 1 and 2 of the process, which its parent may have closed, filled or forgotten.
#pragma once

#include <string_view>

namespace moltfs {

/// Occupies those of the descriptors 0 to 2 that are closed, so that no device is opened under
/// such a number and overwritten by messages. To read from them or to write to them still fails
/// with EBADF. To be called before anything is opened.
void occupy_standard_descriptors();

/// Disconnects the descriptors 0 to 2 from whatever the parent has given: they lead to /dev/null, or
/// where there is none, to nothing (EBADF).
void release_standard_descriptors();

/// Writes all of `text` to standard error; waits for a slow reader. Errors are ignored.
void write_to_standard_error(std::string_view text);

/// Writes `text` to standard error if that is possible without waiting. Else the text is dropped, or
/// what is longer than a pipe takes at once (4096 bytes) of it.
void offer_to_standard_error(std::string_view text);

}  // namespace moltfs
