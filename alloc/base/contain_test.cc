// SPDX-License-Identifier: MIT
#include "alloc/base/contain.h"

#include <new>
#include <system_error>

#include "test/support/catch.h"

namespace moltfs {
namespace {

TEST_CASE("what is thrown for want of memory or of a thread becomes an error") {
  const auto no_memory = contain([] { throw std::bad_alloc(); });
  REQUIRE(!no_memory);
  CHECK(no_memory.error() == Errc::out_of_memory);
  const auto no_thread = contain([]() -> int {
    throw std::system_error(std::make_error_code(std::errc::not_enough_memory), "cannot start it");
  });
  REQUIRE(!no_thread);
  CHECK(no_thread.error() == Errc::out_of_memory);
  CHECK(no_thread.error().message().find("cannot start it") != std::string::npos);
}

TEST_CASE("without an exception, the result is that of the function") {
  CHECK(contain([] { return 7; }).value() == 7);
  const Result<int> failed = contain([]() -> Result<int> { return Error(Errc::busy); });
  CHECK(failed.error() == Errc::busy);
  bool ran = false;
  CHECK(contain([&] { ran = true; }));
  CHECK(ran);
}

TEST_CASE("what must be done is tried until there is memory") {
  RealRuntime runtime;
  int left = 2;
  insist(runtime, [&] {
    if (left-- > 0) throw std::bad_alloc();
  });
  CHECK(left == -1);
}

}  // namespace
}  // namespace moltfs
