// SPDX-License-Identifier: MIT
// The commands of all interfaces (command line, xattr, control file): one line of words.
//
//   start [--force] SOURCE|DEVID TARGET      resume [--accept-loss]      cancel      status
//   online [--force] SOURCE|DEVID [PATH]     offline SOURCE|DEVID
//
// Words are separated by blanks. A word in double quotes may contain blanks; inside, \" is a quote
// and \\ a backslash.
#pragma once

#include <string>
#include <string_view>

#include "alloc/base/error.h"
#include "replace/engine.h"

namespace moltfs::replace {

struct Command {
  enum class Verb : uint8_t { start, resume, cancel, status, online, offline } verb = Verb::status;
  Engine::StartRequest start;
  Engine::OnlineRequest online;
  std::string offline;       ///< the device
  bool accept_loss = false;  ///< resume
};

/// Accepts at most 4096 bytes without control bytes, and one newline at the end. Error: bad_command
/// with a sentence that says what is wrong and what is expected.
Result<Command> parse_command(std::string_view text);
/// Writes it as text that parse_command reads back.
std::string format_command(const Command& command);
/// Runs it. Returns the status afterwards as JSON. Errors: those of Engine.
Result<std::string> execute(Engine& engine, const Command& command);
/// What the target lacks because it could not be read from the source, as one JSON object: "blocks"
/// counts them, "places" names them, "more" tells whether places were left out. At most 48 KiB.
/// Errors: those of Engine::unreadable.
Result<std::string> errors_json(Engine& engine);

}  // namespace moltfs::replace
