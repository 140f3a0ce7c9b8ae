// SPDX-License-Identifier: MIT
// What is fuzzed. Each target makes one input from `choices` and gives it to the product. A fault
// ends the program: an assert, a sanitizer, the watchdog, or fail().
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "test/fuzz/choices.h"

namespace moltfs::fuzz {

/// How many inputs so far were not refused: decoded, mounted, answered without an error. If it is
/// none, or all, the inputs are of no use.
inline uint64_t accepted_inputs = 0;

/// Says what is wrong and ends the program.
[[noreturn]] void fail(const std::string& what);

/// One structure with some fields changed: decoded, checked, described, written again, changed in
/// memory. All structures of the format pages; commands of a replace.
void fuzz_decode(Choices& choices);
/// A volume with some fields changed: check, dump, mount, operations, commit, a second mount, the
/// replace that it records or a new one. What `check` calls clean must mount, and no operation may
/// then find damage.
void fuzz_volume(Choices& choices);
/// One request of the kernel to a mounted volume. The volume stays mounted for many requests.
void fuzz_request(Choices& choices);
/// One text for the control interface of a mounted volume, which stays mounted for many texts.
void fuzz_control(Choices& choices);
/// One text that a user, the kernel or another program gives: mount options, files of /proc, tags,
/// sizes, JSON. What is printed must not reach a terminal as a command, and JSON must be valid.
void fuzz_text(Choices& choices);

struct Target {
  std::string_view name;
  void (*run)(Choices&);
  std::string_view about;
  bool is_slow;      ///< an input takes milliseconds
  bool keeps_state;  ///< what an input does depends on those before it
};
std::span<const Target> targets();

}  // namespace moltfs::fuzz
