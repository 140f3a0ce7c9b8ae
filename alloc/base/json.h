// SPDX-License-Identifier: MIT
// JSON values: build and write them, or parse and read them.
//
// What is written is always valid JSON in UTF-8. In strings, each byte that is not part of a valid
// UTF-8 sequence becomes U+FFFD, written \ufffd: the original byte is lost. Invisible characters
// (utf8.h) are written \uXXXX. Members of an object keep the order in which they were added.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace moltfs {

class Json {
 public:
  using Member = std::pair<std::string, Json>;

  // ---- Building. The constructors are implicit, so that a value can be given as it is.

  Json() = default;                                         ///< null
  Json(std::nullptr_t) {}                                   // NOLINT
  Json(std::string text);                                   // NOLINT
  Json(std::string_view text) : Json(std::string(text)) {}  // NOLINT
  Json(const char* text) : Json(std::string(text)) {}       // NOLINT
  Json(bool value) : value_(value) {}                       // NOLINT
  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) Json(T value) : value_(uint64_t{value}) {}  // NOLINT
  template <std::signed_integral T>
  requires(!std::same_as<T, char>) Json(T value) : value_(int64_t{value}) {}  // NOLINT
  /// null if there is no value.
  template <class T>
  Json(const std::optional<T>& value) : Json(value ? Json(*value) : Json()) {}  // NOLINT

  /// A number with `decimals` digits after the point (0 to 17). null if it is not finite.
  static Json fixed(double value, int decimals);
  static Json object(std::initializer_list<Member> members = {});
  static Json list(std::vector<Json> elements = {});

  /// Adds a member at the end. REQUIRES: this is an object.
  Json& add(std::string key, Json value);
  /// Adds an element at the end. REQUIRES: this is a list.
  Json& append(Json value);

  // ---- Writing

  /// On one line without blanks: {"a":1,"b":[true,null]}
  std::string compact() const;
  /// For people. Objects and lists down to `levels` deep have a line for each member, indented by
  /// two blanks for each level; deeper ones are on one line: {"a": 1, "b": [true, null]}
  /// No newline at the end.
  std::string pretty(unsigned levels) const;

  // ---- Reading

  /// Nothing if `text` is not one JSON value in valid UTF-8 (RFC 8259), or is nested too deeply
  /// (more than 32 levels). A number that is too large for a double is null.
  static std::optional<Json> parse(std::string_view text);

  // A path is a chain of keys: "errors.read" is member "read" of member "errors". The empty path is
  // this value itself. A value of another type counts as missing: the string "null" is a string,
  // and null is not a string.

  const Json* find(std::string_view path) const;  ///< null if missing
  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  std::string text(std::string_view path) const;  ///< empty if missing
  std::optional<std::string> optional_text(std::string_view path) const;
  uint64_t number(std::string_view path) const;  ///< 0 if missing, negative or not whole
  std::optional<uint64_t> optional_number(std::string_view path) const;
  double real(std::string_view path) const;                 ///< of any number; 0 if missing
  bool flag(std::string_view path) const;                   ///< false if missing
  std::vector<Json> elements(std::string_view path) const;  ///< of a list; empty if missing

 private:
  struct Real {
    double value;
    int decimals;  ///< digits after the point; negative: as many as are needed
  };
  using List = std::vector<Json>;
  using Object = std::vector<Member>;
  struct Style;
  class Parser;

  void write(std::string& out, const Style& style, unsigned level) const;
  template <class Elements, class WriteElement>
  static void write_all(std::string& out, const Style& style, unsigned level, char open, char close,
                        const Elements& elements, const WriteElement& write_element);

  std::variant<std::monostate, bool, uint64_t, int64_t, Real, std::string, List, Object> value_;
};

}  // namespace moltfs
