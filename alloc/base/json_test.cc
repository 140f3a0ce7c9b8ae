// SPDX-License-Identifier: MIT
#include "alloc/base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "test/support/catch.h"

namespace moltfs {
namespace {

Json sample() {
  return Json::object({{"name", "a \"b\" \\c"},
                       {"none", nullptr},
                       {"yes", true},
                       {"count", uint64_t{18446744073709551615u}},
                       {"below", -5},
                       {"share", Json::fixed(99.96, 1)},
                       {"list", Json::list({1, "two", Json::object({{"three", 3}})})},
                       {"empty", Json::list()}});
}

TEST_CASE("JSON on one line keeps the order of members") {
  CHECK(sample().compact() ==
        R"({"name":"a \"b\" \\c","none":null,"yes":true,"count":18446744073709551615,"below":-5,)"
        R"("share":100.0,"list":[1,"two",{"three":3}],"empty":[]})");
  CHECK(Json().compact() == "null");
  CHECK(Json::object().compact() == "{}");
  CHECK(Json(std::optional<uint32_t>()).compact() == "null");
  CHECK(Json(std::optional<uint32_t>(7)).compact() == "7");
}

TEST_CASE("JSON for people: a line for each member down to a level") {
  const Json json = Json::object(
      {{"clean", false},
       {"findings", Json::list({Json::object({{"where", "here"}, {"what", "this"}}), 2})},
       {"notes", Json::list()}});
  CHECK(json.pretty(0) ==
        R"({"clean": false, "findings": [{"where": "here", "what": "this"}, 2], "notes": []})");
  CHECK(json.pretty(1) ==
        "{\n  \"clean\": false,\n  \"findings\": [{\"where\": \"here\", \"what\": \"this\"}, 2],\n"
        "  \"notes\": []\n}");
  CHECK(
      json.pretty(2) ==
      "{\n  \"clean\": false,\n  \"findings\": [\n    {\"where\": \"here\", \"what\": \"this\"},\n"
      "    2\n  ],\n  \"notes\": []\n}");
}

TEST_CASE("bytes that are not UTF-8 become U+FFFD, control characters become escapes") {
  CHECK(Json("\xff\xc3\x28\n\x7f"
             "\xc3\xa4\xed\xa0\x80\\")
            .compact() == "\"\\ufffd\\ufffd(\\u000a\\u007f\xc3\xa4\\ufffd\\ufffd\\ufffd\\\\\"");
  CHECK(Json(std::string("a\0b", 3)).compact() == R"("a\u0000b")");
  CHECK(Json("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0").compact() == "\"\\u0080\\u009b\\u009f\xc2\xa0\"");
  CHECK(Json("größe \xf0\x9f\x98\x80").compact() == "\"größe \xf0\x9f\x98\x80\"");
  // Overlong forms, what lies above U+10FFFF, and a sequence that is cut short.
  CHECK(Json("\xc0\xaf").compact() == R"("\ufffd\ufffd")");
  CHECK(Json("\xf4\x90\x80\x80").compact() == R"("\ufffd\ufffd\ufffd\ufffd")");
  CHECK(Json("\xe2\x82").compact() == R"("\ufffd\ufffd")");
  CHECK(Json::object({{"\xff", 1}}).compact() == R"({"\ufffd":1})");
}

TEST_CASE("invisible characters become escapes, and read back as they were") {
  const std::string text = "a\u202eb\u2066\u200f\u061c\u200b\u2028\ufeff\U000e0041ö";
  const std::string written = Json::object({{text, Json(text)}}).compact();
  constexpr std::string_view kEscaped =
      R"("a\u202eb\u2066\u200f\u061c\u200b\u2028\ufeff\udb40\udc41ö")";
  CHECK(written == fmt::format("{{{0}:{0}}}", kEscaped));
  const auto parsed = Json::parse(written);
  REQUIRE(parsed);
  CHECK(parsed->text(text) == text);
}

TEST_CASE("any string of bytes gives JSON that parses") {
  for (unsigned first = 0; first < 256; ++first) {
    for (unsigned second = 0; second < 256; ++second) {
      const std::string bytes{static_cast<char>(first), static_cast<char>(second), 'x'};
      const auto parsed = Json::parse(Json::object({{bytes, bytes}}).compact());
      REQUIRE(parsed);
    }
  }
}

TEST_CASE("numbers that are not finite become null, as JSON has none") {
  CHECK(Json::fixed(std::numeric_limits<double>::infinity(), 1).is_null());
  CHECK(Json::fixed(std::nan(""), 1).is_null());
  CHECK(Json::fixed(0, 1).compact() == "0.0");
  CHECK(Json::fixed(1e300, 0).compact().size() == 301);
  for (const std::string text : {"1e9999", "[-1e9999]", R"({"a":1e999})"}) {
    const auto parsed = Json::parse(text);
    REQUIRE(parsed);
    CHECK(Json::parse(parsed->compact()));
    CHECK(parsed->compact().find("null") != std::string::npos);
  }
}

TEST_CASE("what is written reads back with its types") {
  const auto json = Json::parse(sample().pretty(3));
  REQUIRE(json);
  CHECK(json->compact() ==
        R"({"name":"a \"b\" \\c","none":null,"yes":true,"count":18446744073709551615,"below":-5,)"
        R"("share":100,"list":[1,"two",{"three":3}],"empty":[]})");
  CHECK(json->text("name") == "a \"b\" \\c");
  CHECK(json->find("none")->is_null());
  CHECK(json->flag("yes"));
  CHECK(json->number("count") == 18446744073709551615u);
  CHECK(json->number("below") == 0);
  CHECK(json->real("below") == -5);
  CHECK(json->real("share") == 100);
  CHECK(json->elements("list").size() == 3);
  CHECK(json->elements("list")[1].text("") == "two");
  CHECK(json->elements("list")[2].number("three") == 3);
  CHECK(json->elements("empty").empty());
}

TEST_CASE("reading by path; the string null is not null, and other types count as missing") {
  const auto json = Json::parse(
      R"({"label":"null","reason":null,"source":{"path":"/dev/x","size":5},"read_only":"true"})");
  REQUIRE(json);
  CHECK(json->text("label") == "null");
  CHECK(json->optional_text("label") == "null");
  CHECK(!json->optional_text("reason"));
  CHECK(json->text("source.path") == "/dev/x");
  CHECK(json->number("source.size") == 5);
  CHECK(json->text("source.size").empty());
  CHECK(!json->optional_number("source.path"));
  CHECK(!json->optional_number("reason"));
  CHECK(!json->flag("read_only"));
  CHECK(json->find("source.missing") == nullptr);
  CHECK(json->find("label.missing") == nullptr);
  CHECK(json->elements("source").empty());
}

TEST_CASE("text that is not JSON does not parse") {
  for (const char* text : {"", "{", "[1,]", "{\"a\":1}x", "'a'", "nul", "\"\xff\"", "01"}) {
    INFO(text);
    CHECK(!Json::parse(text));
  }
  CHECK(!Json::parse(std::string(100, '[') + std::string(100, ']')));
}

}  // namespace
}  // namespace moltfs
