// SPDX-License-Identifier: MIT
#include "alloc/base/uuid.h"

#include "test/support/catch.h"

namespace moltfs {
namespace {

TEST_CASE("uuids are formatted, parsed and generated") {
  RealRuntime runtime;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const Uuid uuid = Uuid::generate(runtime);
    CHECK_FALSE(uuid.is_nil());
    const std::string text = uuid.to_string();
    REQUIRE(text.size() == 36);
    CHECK(text[14] == '4');
    CHECK(std::string("89ab").find(text[19]) != std::string::npos);
    CHECK(Uuid::parse(text) == uuid);
    CHECK(seen.insert(text).second);
  }
  const auto upper = Uuid::parse("01234567-89AB-CDEF-0123-456789ABCDEF");
  REQUIRE(upper);
  CHECK(upper->to_string() == "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(Uuid{}.is_nil());
  CHECK(Uuid{}.to_string() == "00000000-0000-0000-0000-000000000000");
  for (const char* wrong :
       {"", "0", "01234567-89ab-cdef-0123-456789abcde", "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567089ab-cdef-0123-456789abcdef", "0123456g-89ab-cdef-0123-456789abcdef"}) {
    CHECK_FALSE(Uuid::parse(wrong));
  }
}

}  // namespace
}  // namespace moltfs
