// SPDX-License-Identifier: MIT
// Tests of the commands: what is accepted, what is refused, and garbage.
#include "replace/command.h"

#include <random>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;

namespace {

Command parsed(std::string_view text) {
  INFO(text);
  auto command = parse_command(text);
  if (!command) FAIL(command.error().message());
  return command.value();
}

std::string refusal(std::string_view text) {
  INFO(text);
  auto command = parse_command(text);
  REQUIRE(!command);
  REQUIRE(command.error() == Errc::bad_command);
  return command.error().message();
}

}  // namespace

TEST_CASE("commands are understood") {
  REQUIRE(parsed("status").verb == Command::Verb::status);
  REQUIRE(parsed("resume\n").verb == Command::Verb::resume);
  REQUIRE(!parsed("resume").accept_loss);
  REQUIRE(parsed("resume --accept-loss").accept_loss);
  REQUIRE(format_command(parsed("resume --accept-loss")) == "resume --accept-loss");
  REQUIRE(!parse_command("resume --accept"));
  REQUIRE(!parse_command("resume \"--accept-loss\""));
  REQUIRE(!parse_command("cancel --accept-loss"));
  REQUIRE(parsed("  cancel ").verb == Command::Verb::cancel);
  auto start = parsed("start 1 /dev/loop5");
  REQUIRE(start.verb == Command::Verb::start);
  REQUIRE(start.start.source == "1");
  REQUIRE(start.start.target == "/dev/loop5");
  REQUIRE(!start.start.force);
  REQUIRE(parsed("start --force a b").start.force);
  REQUIRE(parsed("start a b --force").start.force);
  start = parsed(R"(start "/a b/\"c\\" --force ./x"y z")");
  REQUIRE(start.start.source == R"(/a b/"c\)");
  REQUIRE(start.start.target == "./xy z");
  REQUIRE(parsed(R"(start "--force" b)").start.source == "--force");
  const auto online = parsed("online --force 2 /dev/b");
  REQUIRE(online.verb == Command::Verb::online);
  REQUIRE(online.online.device == "2");
  REQUIRE(online.online.path == "/dev/b");
  REQUIRE(online.online.force);
  REQUIRE(format_command(online) == "online --force 2 /dev/b");
  REQUIRE(parsed("online 2").online.path.empty());
  REQUIRE(!parsed("online 2").online.force);
  REQUIRE(format_command(parsed("online 2")) == "online 2");
  REQUIRE(parsed("offline \"/a b\"").offline == "/a b");
  REQUIRE(format_command(parsed("offline \"/a b\"")) == "offline \"/a b\"");
}

TEST_CASE("a wrong command is refused with a sentence that says why") {
  REQUIRE(refusal("").find("empty command") != std::string::npos);
  REQUIRE(refusal("\n").find("empty command") != std::string::npos);
  REQUIRE(refusal("begin 1 2").find("unknown command \"begin\"; expected: start") !=
          std::string::npos);
  REQUIRE(refusal("start 1").find("not 1 words") != std::string::npos);
  REQUIRE(refusal("start 1 2 3").find("not 3 words") != std::string::npos);
  REQUIRE(refusal("start --wait 1 2").find("unknown option --wait") != std::string::npos);
  REQUIRE(refusal("start \"\" 2").find("empty name") != std::string::npos);
  REQUIRE(refusal("start \"1 2").find("not closed") != std::string::npos);
  REQUIRE(refusal("start \"1\\n\" 2").find("within quotes") != std::string::npos);
  REQUIRE(refusal("start \"1\\").find("not closed") != std::string::npos);
  REQUIRE(refusal("status now").find("takes nothing") != std::string::npos);
  REQUIRE(refusal("online").find("not 0 words") != std::string::npos);
  REQUIRE(refusal("online 1 2 3").find("not 3 words") != std::string::npos);
  REQUIRE(refusal("online \"\"").find("empty name") != std::string::npos);
  REQUIRE(refusal("offline 1 2").find("not 2 words") != std::string::npos);
  REQUIRE(refusal("offline --force 1").find("no option") != std::string::npos);
  REQUIRE(refusal("status\n\n").find("control byte 0x0a") != std::string::npos);
  REQUIRE(refusal(std::string_view("start 1\0 2", 10)).find("control byte") != std::string::npos);
  REQUIRE(refusal(std::string(4097, 'x')).find("4096") != std::string::npos);
}

TEST_CASE("a written command reads back, and garbage never crashes") {
  std::mt19937 random(3);
  const std::string alphabet = "start cancelresumestatus\"\\ \t\n-force12/\xff\x01";
  unsigned understood = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::string_view verbs[] = {"", "start ", "start ", "online ", "offline "};
    std::string text(verbs[random() % std::size(verbs)]);
    for (unsigned n = random() % 24; n > 0; --n) text += alphabet[random() % alphabet.size()];
    if (random() % 50 == 0) {
      for (char& c : text) c = static_cast<char>(random());
    }
    auto command = parse_command(text);
    if (!command) {
      REQUIRE(command.error() == Errc::bad_command);
      continue;
    }
    ++understood;
    const auto again = parsed(format_command(command.value()));
    REQUIRE(again.verb == command.value().verb);
    REQUIRE(again.start.source == command.value().start.source);
    REQUIRE(again.start.target == command.value().start.target);
    REQUIRE(again.start.force == command.value().start.force);
    REQUIRE(again.online.device == command.value().online.device);
    REQUIRE(again.online.path == command.value().online.path);
    REQUIRE(again.offline == command.value().offline);
  }
  REQUIRE(understood > 1000);
}
