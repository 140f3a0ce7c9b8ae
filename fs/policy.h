// SPDX-License-Identifier: MIT
// Policy: the mount options that the filesystem itself applies and that a remount may change.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moltfs::fs {

/// Aligned to its size, so that std::atomic<Policy> needs no library with any compiler.
struct alignas(4) Policy {
  enum class Atime : uint8_t { relative, never, strict };
  Atime atime = Atime::relative;  ///< relatime, noatime, strictatime
  bool directory_atime = true;    ///< diratime, nodiratime
  bool sync_names = false;        ///< dirsync: changes of names are durable when answered
  bool sync_all = false;          ///< sync, async: changes of attributes, too
  bool operator==(const Policy&) const = default;
};
static_assert(sizeof(Policy) == 4);

/// Applies one word of "-o" to `policy`; false if it is not one of the words above.
bool take_policy_word(std::string_view word, Policy& policy);

/// The policy in those words, separated by commas, the rule for access times first.
std::string to_words(const Policy& policy);

}  // namespace moltfs::fs
