// SPDX-License-Identifier: MIT
#include "fs/daemon/end_report.h"

#include <memory>

#include "test/support/catch.h"

namespace moltfs::fs::daemon {
namespace {

using Event = EndWatch::Event;

TEST_CASE("a waiting command learns of the end of the connection and of the last commit") {
  auto report = std::make_unique<EndReport>();
  REQUIRE(!report->name().empty());
  auto watch = EndWatch::connect(report->name());
  auto other = EndWatch::connect(report->name());
  REQUIRE(watch);
  REQUIRE(other);
  CHECK(watch->wait(0) == Event::timeout);

  report->connection_ended();
  CHECK(watch->wait(-1) == Event::connection_ended);
  report->finished(ok());
  CHECK(watch->wait(0) == Event::timeout);  // the process has not ended
  report.reset();
  CHECK(watch->wait(-1) == Event::finished);
  CHECK(watch->failure() == "");
  CHECK(other->wait(-1) == Event::connection_ended);
  CHECK(other->wait(-1) == Event::finished);
  CHECK(other->failure() == "");
}

TEST_CASE("a failed last commit is reported with its reason, on one line") {
  auto report = std::make_unique<EndReport>();
  auto watch = EndWatch::connect(report->name());
  REQUIRE(watch);
  report->connection_ended();
  report->finished(Error(Errc::io_error, "no room\non the host"));
  report.reset();
  CHECK(watch->wait(-1) == Event::connection_ended);
  CHECK(watch->wait(-1) == Event::finished);
  CHECK(watch->failure() == "no room on the host");
}

TEST_CASE("a killed daemon reports nothing") {
  auto report = std::make_unique<EndReport>();
  auto watch = EndWatch::connect(report->name());
  REQUIRE(watch);
  report.reset();
  CHECK(watch->wait(-1) == Event::finished);
  CHECK_FALSE(watch->failure());
}

TEST_CASE("without a listening daemon a command does not wait") {
  CHECK_FALSE(EndWatch::connect(""));
  CHECK_FALSE(EndWatch::connect("no such name"));
  CHECK_FALSE(EndWatch::connect(std::string(200, 'x')));
}

}  // namespace
}  // namespace moltfs::fs::daemon
