// SPDX-License-Identifier: MIT
// The command language of the three doors (command line, xattr, control file): one line of words.
//
//   start [--force] SOURCE|DEVID TARGET      resume      cancel      status
//
// Words are separated by blanks; a word in double quotes may hold blanks ("\"" and "\\" inside).
#pragma once

#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "replace/engine.h"

namespace moltfs::replace {

struct Command {
  enum class Verb : uint8_t { start, resume, cancel, status } verb = Verb::status;
  Engine::StartRequest start;
};

/// Errors: bad_command with a sentence that says what was wrong and what is expected. Accepts one
/// trailing newline; at most 4096 bytes; no NUL or control bytes.
Result<Command> parse_command(std::string_view text);
/// As text that parse_command reads back.
std::string format_command(const Command& command);
/// Runs it; the status JSON after it.
Result<std::string> execute(Engine& engine, const Command& command);

}  // namespace moltfs::replace
