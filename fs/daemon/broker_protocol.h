// SPDX-License-Identifier: MIT
// The requests to the broker. Used only by its two ends, and by the tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moltfs::fs::daemon {

enum class BrokerJob : uint32_t {
  check_admin,   ///< caller
  groups,        ///< caller; answer: numbers
  open_blank,    ///< caller; text: the path
  take_target,   ///< caller; number: his socket; text: the path
  open_own,      ///< text: the path; read_only, exclusive
  candidates,    ///< answer: paths, each ended by 0
  mounted,       ///< text: the device number, a newline, the mount point; once, no answer
  write_back,    ///< write_back_cache() of the mount
  forget_mount,  ///< remove_from_utab_if_unmounted()
  log,           ///< number: a LogLevel; text: a line; no answer
  unmount,       ///< answer: kInUse if so, then the warnings; a line each
};

inline constexpr std::string_view kInUse = "in use";

/// Before the text of a request.
struct BrokerRequest {
  BrokerJob job{};
  uint32_t uid = 0;
  int32_t pid = 0, number = -1;
  uint32_t read_only = 0, exclusive = 0;
};

/// Before the text of an answer. `code`: 0, or an Errc of which the text is the sentence.
struct BrokerAnswer {
  uint32_t code = 0;
};

template <class Header>
std::string packed(const Header& header, std::string_view text) {
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  return bytes.append(text);
}

}  // namespace moltfs::fs::daemon
