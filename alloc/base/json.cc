// SPDX-License-Identifier: MIT
// Boost.JSON parses. Writing is done here: Boost.JSON would pass invalid UTF-8 on, and can neither
// indent nor give a number a fixed count of decimals.
#include "alloc/base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/src.hpp>
#include <cmath>

#include "alloc/base/assert.h"
#include "alloc/base/utf8.h"

namespace moltfs {

namespace {

/// As \uXXXX; beyond U+FFFF as a pair of surrogates.
void write_escaped(std::string& out, char32_t c) {
  if (c <= 0xFFFF) {
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    return;
  }
  const auto rest = static_cast<uint32_t>(c) - 0x10000;
  out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
}

void write_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, std::max<size_t>(length, 1));
    if (length == 0) {
      out += "\\ufffd";
    } else if (text[0] == '"' || text[0] == '\\') {
      out += '\\';
      out += text[0];
    } else if (const char32_t c = code_point(character); is_invisible(c)) {
      write_escaped(out, c);
    } else {
      out += character;
    }
    text.remove_prefix(character.size());
  }
  out += '"';
}

}  // namespace

struct Json::Style {
  bool blanks = false;  ///< after commas and colons
  unsigned levels = 0;  ///< down to which each element has a line of its own
};

class Json::Parser {
 public:
  static Json from(const boost::json::value& value) {
    switch (value.kind()) {
      case boost::json::kind::null:
        return {};
      case boost::json::kind::bool_:
        return value.get_bool();
      case boost::json::kind::int64:
        return from_integer(value.get_int64());
      case boost::json::kind::uint64:
        return value.get_uint64();
      case boost::json::kind::double_: {
        Json number;
        if (std::isfinite(value.get_double())) number.value_ = Real{value.get_double(), -1};
        return number;
      }
      case boost::json::kind::string:
        return std::string_view(value.get_string().data(), value.get_string().size());
      case boost::json::kind::array: {
        Json all = list();
        for (const auto& element : value.get_array()) all.append(from(element));
        return all;
      }
      case boost::json::kind::object: {
        Json all = object();
        for (const auto& member : value.get_object()) {
          all.add(std::string(member.key().data(), member.key().size()), from(member.value()));
        }
        return all;
      }
    }
    return {};
  }

 private:
  /// Boost.JSON takes every integer that fits for a signed one.
  static Json from_integer(int64_t value) {
    return value < 0 ? Json(value) : Json(static_cast<uint64_t>(value));
  }
};

Json::Json(std::string text) : value_(std::move(text)) {}

Json Json::fixed(double value, int decimals) {
  ASSERT(decimals >= 0 && decimals <= 17);
  Json number;
  if (std::isfinite(value)) number.value_ = Real{value, decimals};
  return number;
}

Json Json::object(std::initializer_list<Member> members) {
  Json json;
  json.value_ = Object(members);
  return json;
}

Json Json::list(std::vector<Json> elements) {
  Json json;
  json.value_ = std::move(elements);
  return json;
}

Json& Json::add(std::string key, Json value) {
  auto* const object = std::get_if<Object>(&value_);
  ASSERT(object != nullptr);
  object->emplace_back(std::move(key), std::move(value));
  return *this;
}

Json& Json::append(Json value) {
  auto* const list = std::get_if<List>(&value_);
  ASSERT(list != nullptr);
  list->push_back(std::move(value));
  return *this;
}

std::string Json::compact() const {
  std::string out;
  write(out, {}, 0);
  return out;
}

std::string Json::pretty(unsigned levels) const {
  std::string out;
  write(out, {true, levels}, 0);
  return out;
}

template <class Elements, class WriteElement>
void Json::write_all(std::string& out, const Style& style, unsigned level, char open, char close,
                     const Elements& elements, const WriteElement& write_element) {
  const bool lines = level < style.levels && !elements.empty();
  const auto new_line = [&](unsigned depth) {
    out += '\n';
    out.append(2 * size_t{depth}, ' ');
  };
  out += open;
  bool first = true;
  for (const auto& element : elements) {
    if (!first) out += style.blanks && !lines ? ", " : ",";
    first = false;
    if (lines) new_line(level + 1);
    write_element(element);
  }
  if (lines) new_line(level);
  out += close;
}

void Json::write(std::string& out, const Style& style, unsigned level) const {
  if (const auto* const flag = std::get_if<bool>(&value_)) {
    out += *flag ? "true" : "false";
  } else if (const auto* const natural = std::get_if<uint64_t>(&value_)) {
    out += fmt::format("{}", *natural);
  } else if (const auto* const integer = std::get_if<int64_t>(&value_)) {
    out += fmt::format("{}", *integer);
  } else if (const auto* const number = std::get_if<Real>(&value_)) {
    out += number->decimals < 0 ? fmt::format("{}", number->value)
                                : fmt::format("{:.{}f}", number->value, number->decimals);
  } else if (const auto* const text = std::get_if<std::string>(&value_)) {
    write_string(out, *text);
  } else if (const auto* const list = std::get_if<List>(&value_)) {
    write_all(out, style, level, '[', ']', *list,
              [&](const Json& element) { element.write(out, style, level + 1); });
  } else if (const auto* const object = std::get_if<Object>(&value_)) {
    write_all(out, style, level, '{', '}', *object, [&](const Member& member) {
      write_string(out, member.first);
      out += style.blanks ? ": " : ":";
      member.second.write(out, style, level + 1);
    });
  } else {
    out += "null";
  }
}

std::optional<Json> Json::parse(std::string_view text) {
  boost::system::error_code error;
  const auto value = boost::json::parse({text.data(), text.size()}, error);
  if (error) return std::nullopt;
  return Parser::from(value);
}

const Json* Json::find(std::string_view path) const {
  if (path.empty()) return this;
  const auto* const object = std::get_if<Object>(&value_);
  if (object == nullptr) return nullptr;
  const std::string_view key = path.substr(0, path.find('.'));
  path.remove_prefix(std::min(path.size(), key.size() + 1));
  const auto member =
      std::find_if(object->begin(), object->end(), [&](const Member& m) { return m.first == key; });
  return member == object->end() ? nullptr : member->second.find(path);
}

std::optional<std::string> Json::optional_text(std::string_view path) const {
  const Json* const json = find(path);
  const auto* const text = json == nullptr ? nullptr : std::get_if<std::string>(&json->value_);
  return text == nullptr ? std::nullopt : std::optional(*text);
}

std::string Json::text(std::string_view path) const {
  return optional_text(path).value_or("");
}

std::optional<uint64_t> Json::optional_number(std::string_view path) const {
  const Json* const json = find(path);
  if (json == nullptr) return std::nullopt;
  if (const auto* const natural = std::get_if<uint64_t>(&json->value_)) return *natural;
  const auto* const integer = std::get_if<int64_t>(&json->value_);
  if (integer == nullptr || *integer < 0) return std::nullopt;
  return static_cast<uint64_t>(*integer);
}

uint64_t Json::number(std::string_view path) const {
  return optional_number(path).value_or(0);
}

double Json::real(std::string_view path) const {
  const Json* const json = find(path);
  if (json == nullptr) return 0;
  if (const auto* const number = std::get_if<Real>(&json->value_)) return number->value;
  if (const auto* const natural = std::get_if<uint64_t>(&json->value_)) {
    return static_cast<double>(*natural);
  }
  const auto* const integer = std::get_if<int64_t>(&json->value_);
  return integer == nullptr ? 0 : static_cast<double>(*integer);
}

bool Json::flag(std::string_view path) const {
  const Json* const json = find(path);
  const auto* const flag = json == nullptr ? nullptr : std::get_if<bool>(&json->value_);
  return flag != nullptr && *flag;
}

std::vector<Json> Json::elements(std::string_view path) const {
  const Json* const json = find(path);
  const auto* const list = json == nullptr ? nullptr : std::get_if<List>(&json->value_);
  return list == nullptr ? List() : *list;
}

}  // namespace moltfs
