// SPDX-License-Identifier: MIT
// Tests of who is told of failed writes.
#include "alloc/volume/write_failures.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;

namespace {

constexpr uint64_t kFile = 300, kOther = 301;
const Error kLost(Errc::io_error);

}  // namespace

TEST_CASE("each open file gets the error once, independent of the others") {
  WriteFailures failures;
  const auto first = failures.opened(), second = failures.opened(), elsewhere = failures.opened();
  CHECK(!failures.news(kFile, first));
  failures.add(kFile, kLost);
  CHECK(!failures.news(kOther, elsewhere));
  CHECK(failures.news_for_all());
  CHECK(!failures.news_for_all());
  CHECK(failures.news(kFile, first));
  CHECK(!failures.news(kFile, first));
  CHECK(failures.news(kFile, second));
  CHECK(!failures.news(kFile, second));
  CHECK(failures.news(kFile, 0));
  CHECK(!failures.news(kFile, 0));
  failures.add(kFile, kLost);  // a second failure is news again
  CHECK(failures.news_for_all());
  CHECK(failures.news(kFile, second));
  CHECK(failures.news(kFile, first));
  failures.add(kOther, kLost);
  CHECK(failures.news(kOther, elsewhere));
  CHECK(!failures.news_for_all());  // somebody knows
}

TEST_CASE("a file opened later gets the error only if no descriptor has got it") {
  WriteFailures failures;
  failures.add(kFile, kLost);
  const auto later = failures.opened();
  CHECK(failures.news(kFile, later));
  const auto last = failures.opened();
  CHECK(!failures.news(kFile, last));
  failures.closed(later);
  CHECK(!failures.news(kFile, last));
}
