// SPDX-License-Identifier: MIT
// Policy: the mount options that the filesystem itself obeys and that a remount may change.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moltfs::fs {

/// Aligned to its size, so that an atomic one needs no library with any compiler.
struct alignas(4) Policy {
  enum class Atime : uint8_t { relative, never, strict };
  Atime atime = Atime::relative;  ///< relatime, noatime, strictatime
  bool directory_atime = true;    ///< diratime, nodiratime
  bool sync_names = false;        ///< dirsync: changes of names are durable when they are answered
  bool sync_all = false;          ///< sync, async: those of attributes, too
  bool operator==(const Policy&) const = default;
};
static_assert(sizeof(Policy) == 4);

/// What one word of "-o" says of it; false if it is none of the words above (or dirsync).
bool take_policy_word(std::string_view word, Policy& policy);

/// In those words, separated by commas, beginning with the rule for access times.
std::string to_words(const Policy& policy);

}  // namespace moltfs::fs
