// SPDX-License-Identifier: MIT
#include "alloc/base/utf8.h"

#include "test/support/catch.h"

using namespace moltfs;

TEST_CASE("the length of valid sequences, and 0 for all others") {
  CHECK(utf8_length("a") == 1);
  CHECK(utf8_length("é") == 2);
  CHECK(utf8_length("€") == 3);
  CHECK(utf8_length("😀") == 4);
  for (const char* bad : {"\x80", "\xe9", "\xe9t\xe9", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    INFO(bad);
    CHECK(utf8_length(bad) == 0);
  }
}

TEST_CASE("text is printed as it is, controls and other bytes are escaped") {
  CHECK(printable("") == "");
  CHECK(printable("größe \"x\" \\ 😀") == "größe \"x\" \\ 😀");
  CHECK(printable("a\x1b[31mred\n\x7f") == "a\\x1b[31mred\\x0a\\x7f");
  CHECK(printable("caf\xe9 \xe2\x82") == "caf\\xe9 \\xe2\\x82");
  CHECK(printable("\xc2\x9b"
                  "31m \xc2\xa0") ==
        "\\xc2\\x9b"
        "31m \xc2\xa0");
  CHECK(printable(std::string_view("a\0b", 3)) == "a\\x00b");
  CHECK(printable("a\"b\\c", "\"\\") == "a\\x22b\\x5cc");
}
