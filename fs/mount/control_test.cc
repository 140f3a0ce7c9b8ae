// SPDX-License-Identifier: MIT
// The table of doors and the JSON strings. What lies behind the doors is tested on real mounts.
#include "fs/mount/control.h"

#include <unistd.h>

#include "test/support/catch.h"

using namespace moltfs::fs;

TEST_CASE("doors stand in the order of their topics, each under its own name") {
  const auto& doors = Control::doors();
  for (size_t i = 0; i < doors.size(); ++i) {
    CHECK(static_cast<size_t>(doors[i].topic) == i);
    CHECK(Control::find(doors[i].name) == &doors[i]);
  }
  CHECK(Control::find("") == nullptr);
  CHECK(Control::find("replac") == nullptr);
  CHECK(Control::find("replace2") == nullptr);
}

TEST_CASE("only what commands are for can be set, and status is not for everybody") {
  CHECK(Control::find("replace")->settable);
  CHECK_FALSE(Control::find("replace")->readable_by_all);
  CHECK_FALSE(Control::find("message")->settable);
  CHECK_FALSE(Control::find("usage")->settable);
  CHECK(Control::find("pid")->readable_by_all);
  CHECK(Control::find("options")->settable);
}

TEST_CASE("JSON strings") {
  CHECK(json_quote("") == "\"\"");
  CHECK(json_quote("a \"b\" \\c") == R"("a \"b\" \\c")");
  CHECK(json_quote("x\n\x01\x7f") == R"("x\u000a\u0001\u007f")");
  CHECK(json_quote("/dev/größe") == "\"/dev/größe\"");
}

TEST_CASE("the identity of this process begins with its number and has a start time") {
  const std::string identity = process_identity();
  CHECK(identity.starts_with(std::to_string(getpid()) + " "));
  const std::string start = identity.substr(identity.find(' ') + 1);
  CHECK(!start.empty());
  CHECK(start.find_first_not_of("0123456789") == std::string::npos);
}
