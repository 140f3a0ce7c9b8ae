// SPDX-License-Identifier: MIT
// The commands as text.
#include "replace/command.h"

#include <fmt/format.h>

#include <vector>

#include "alloc/base/json.h"

namespace moltfs::replace {

namespace {

constexpr size_t kMaxCommandBytes = 4096;
constexpr std::string_view kExpected =
    "expected: start [--force] SOURCE|DEVID TARGET, resume [--accept-loss], cancel, status, "
    "online [--force] SOURCE|DEVID [PATH] or offline SOURCE|DEVID";

struct Word {
  std::string text;
  bool quoted = false;  ///< at least in part; a quoted word is never an option
};

Error bad(std::string_view what) {
  return Error(Errc::bad_command, fmt::format("{}; {}", what, kExpected));
}

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

/// Takes the first word off `text`.
Result<Word> take_word(std::string_view& text) {
  Word word;
  bool within_quotes = false;
  while (!text.empty() && (within_quotes || !is_blank(text[0]))) {
    char c = text[0];
    text.remove_prefix(1);
    if (c == '"') {
      within_quotes = !within_quotes;
      word.quoted = true;
      continue;
    }
    if (c == '\\' && within_quotes) {
      if (text.empty()) break;
      c = text[0];
      if (c != '"' && c != '\\') return bad("only \\\" and \\\\ are known within quotes");
      text.remove_prefix(1);
    }
    word.text += c;
  }
  if (within_quotes) return bad("a quote is not closed");
  return word;
}

Result<std::vector<Word>> words_of(std::string_view text) {
  if (text.size() > kMaxCommandBytes) {
    return bad(
        fmt::format("a command has at most {} bytes, not {}", kMaxCommandBytes, text.size()));
  }
  if (text.ends_with('\n')) text.remove_suffix(1);
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) {
      return bad(fmt::format("control byte 0x{:02x} in the command", byte));
    }
  }
  std::vector<Word> words;
  for (;;) {
    while (!text.empty() && is_blank(text[0])) text.remove_prefix(1);
    if (text.empty()) return words;
    TRY(auto word, take_word(text));
    words.push_back(std::move(word));
  }
}

/// What follows the verb: names, and --force.
struct Operands {
  std::vector<std::string> names;
  bool force = false;
};

Result<Operands> operands_of(const std::vector<Word>& words) {
  Operands operands;
  for (size_t i = 1; i < words.size(); ++i) {
    const Word& word = words[i];
    if (word.quoted || !word.text.starts_with("-")) {
      operands.names.push_back(word.text);
    } else if (word.text == "--force") {
      operands.force = true;
    } else {
      return bad(fmt::format("unknown option {}", word.text.substr(0, 40)));
    }
  }
  return operands;
}

Result<void> check_names(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (name.empty()) return bad("an empty name");
  }
  return ok();
}

Result<Engine::StartRequest> parse_start(const std::vector<Word>& words) {
  TRY(auto operands, operands_of(words));
  auto& names = operands.names;
  if (names.size() != 2) {
    return bad(fmt::format("start takes a source and a target, not {} words", names.size()));
  }
  TRY(check_names(names));
  Engine::StartRequest request;
  request.source = std::move(names[0]);
  request.target = std::move(names[1]);
  request.force = operands.force;
  return request;
}

Result<Engine::OnlineRequest> parse_online(const std::vector<Word>& words) {
  TRY(auto operands, operands_of(words));
  auto& names = operands.names;
  if (names.size() != 1 && names.size() != 2) {
    return bad(
        fmt::format("online takes a device and perhaps its path, not {} words", names.size()));
  }
  TRY(check_names(names));
  Engine::OnlineRequest request;
  request.device = std::move(names[0]);
  if (names.size() == 2) request.path = std::move(names[1]);
  request.force = operands.force;
  return request;
}

Result<std::string> parse_offline(const std::vector<Word>& words) {
  TRY(auto operands, operands_of(words));
  if (operands.force) return bad("offline takes no option");
  if (operands.names.size() != 1) {
    return bad(fmt::format("offline takes a device, not {} words", operands.names.size()));
  }
  TRY(check_names(operands.names));
  return std::move(operands.names[0]);
}

std::string quoted(const std::string& word) {
  std::string out = "\"";
  for (char c : word) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

/// The word as it is if possible, else in quotes.
std::string written(const std::string& word) {
  const bool plain =
      !word.empty() && word[0] != '-' && word.find_first_of(" \t\"\\") == std::string::npos;
  return plain ? word : quoted(word);
}

}  // namespace

Result<Command> parse_command(std::string_view text) {
  TRY(auto words, words_of(text));
  if (words.empty()) return bad("an empty command");
  const std::string& verb = words[0].text;
  Command command;
  if (verb == "start") {
    command.verb = Command::Verb::start;
    TRY(command.start, parse_start(words));
    return command;
  }
  if (verb == "online") {
    command.verb = Command::Verb::online;
    TRY(command.online, parse_online(words));
    return command;
  }
  if (verb == "offline") {
    command.verb = Command::Verb::offline;
    TRY(command.offline, parse_offline(words));
    return command;
  }
  if (verb == "resume") {
    command.verb = Command::Verb::resume;
    command.accept_loss = words.size() == 2 && !words[1].quoted && words[1].text == "--accept-loss";
    if (command.accept_loss) return command;
  } else if (verb == "cancel") {
    command.verb = Command::Verb::cancel;
  } else if (verb == "status") {
    command.verb = Command::Verb::status;
  } else {
    return bad(fmt::format("unknown command \"{}\"", verb.substr(0, 40)));
  }
  if (words.size() != 1) {
    const bool is_resume = command.verb == Command::Verb::resume;
    return bad(is_resume ? "resume takes nothing but --accept-loss"
                         : fmt::format("{} takes nothing", verb));
  }
  return command;
}

std::string format_command(const Command& command) {
  switch (command.verb) {
    case Command::Verb::resume:
      return command.accept_loss ? "resume --accept-loss" : "resume";
    case Command::Verb::cancel:
      return "cancel";
    case Command::Verb::status:
      return "status";
    case Command::Verb::online:
      return fmt::format("online {}{}{}{}", command.online.force ? "--force " : "",
                         written(command.online.device), command.online.path.empty() ? "" : " ",
                         command.online.path.empty() ? "" : written(command.online.path));
    case Command::Verb::offline:
      return "offline " + written(command.offline);
    case Command::Verb::start:
      break;
  }
  return fmt::format("start {}{} {}", command.start.force ? "--force " : "",
                     written(command.start.source), written(command.start.target));
}

Result<std::string> execute(Engine& engine, const Command& command) {
  Result<void> outcome = ok();
  switch (command.verb) {
    case Command::Verb::start:
      outcome = engine.start(command.start);
      break;
    case Command::Verb::resume:
      outcome = engine.resume(command.accept_loss);
      break;
    case Command::Verb::cancel:
      outcome = engine.cancel();
      break;
    case Command::Verb::online:
      outcome = engine.online(command.online);
      break;
    case Command::Verb::offline:
      outcome = engine.offline(command.offline);
      break;
    case Command::Verb::status:
      break;
  }
  TRY(std::move(outcome));
  return to_json(engine.status());
}

Result<std::string> errors_json(Engine& engine) {
  constexpr size_t kMaxPlaces = 4096, kMaxBytes = 48 * 1024, kRoomForTheRest = 200;
  TRY(auto found, engine.unreadable(kMaxPlaces + 1));
  const uint64_t blocks = engine.status().errors.read_uncorrectable;
  Json places = Json::list();
  size_t bytes = kRoomForTheRest, shown = 0;
  for (const Engine::Unreadable& place : found) {
    Json one = Json::object({{"where", place.where}, {"bytes", place.bytes}});
    bytes += one.compact().size() + 1;
    if (shown == kMaxPlaces || bytes > kMaxBytes) break;
    places.append(std::move(one));
    ++shown;
  }
  const bool more = shown < found.size();
  return Json::object({{"blocks", blocks}, {"places", std::move(places)}, {"more", more}})
      .compact();
}

}  // namespace moltfs::replace
