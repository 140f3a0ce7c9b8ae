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

TEST_CASE("a prefix does not end within a character") {
  CHECK(utf8_prefix("a€b", 9) == "a€b");
  CHECK(utf8_prefix("a€b", 4) == "a€");
  CHECK(utf8_prefix("a€b", 3) == "a");
  CHECK(utf8_prefix("a€b", 2) == "a");
  CHECK(utf8_prefix("€", 0) == "");
}

TEST_CASE("the code point of a sequence of each length") {
  CHECK(code_point("a") == U'a');
  CHECK(code_point("é") == U'é');
  CHECK(code_point("€") == U'€');
  CHECK(code_point("😀") == U'😀');
  CHECK(code_point("\xf4\x8f\xbf\xbf") == 0x10FFFF);
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

TEST_CASE("characters that reorder text or cannot be seen are escaped") {
  // The classic: a terminal that obeys shows "photo_exe.jpg".
  CHECK(printable("photo_\u202egpj.exe") == "photo_\\xe2\\x80\\xaegpj.exe");
  for (const char32_t c : {0x00AD, 0x034F, 0x061C, 0x115F,  0x180E,  0x200B, 0x200C, 0x200D, 0x200E,
                           0x200F, 0x2028, 0x2029, 0x202A,  0x202B,  0x202C, 0x202D, 0x202E, 0x2060,
                           0x2064, 0x2066, 0x2067, 0x2068,  0x2069,  0x206F, 0x3164, 0xFE0F, 0xFEFF,
                           0xFFA0, 0xFFF9, 0xFFFB, 0x1D173, 0xE0001, 0xE0FFF}) {
    INFO(std::hex << static_cast<uint32_t>(c));
    CHECK(is_invisible(c));
  }
  // Their neighbours, letters that are written from right to left, and other blanks are shown.
  CHECK(printable("\u00ac\u00ae \u061b\u0627 \u200a\u2010\u2027\u202f\u205f\u2070 \u05d0") ==
        "\u00ac\u00ae \u061b\u0627 \u200a\u2010\u2027\u202f\u205f\u2070 \u05d0");
  for (const char32_t c : {0x20, 0x7E, 0xA0, 0xFDFF, 0xFE10, 0xFEFE, 0xFF9F, 0xFFFC, 0xFFFD,
                           0x1F600, 0xDFFFF, 0xE1000, 0x10FFFF}) {
    INFO(std::hex << static_cast<uint32_t>(c));
    CHECK(!is_invisible(c));
  }
}
