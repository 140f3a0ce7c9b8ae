// SPDX-License-Identifier: MIT
// The status of a replace as JSON.
#include "replace/status.h"

#include <fmt/format.h>

#include <algorithm>

namespace moltfs::replace {

namespace {

/// Length of the valid UTF-8 sequence at the front of `text`; 0 if there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xC2 ? 0
                        : lead < 0xE0 ? 2
                        : lead < 0xF0 ? 3
                        : lead < 0xF5 ? 4
                                      : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF.
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) >= 0xA0) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) >= 0x90) return 0;
  return length;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const auto c = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      out += "\\ufffd";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += text[0];
    } else if (c < 0x20 || c == 0x7F) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return out + "\"";
}

std::string json_of(const alloc::DeviceEntry& device) {
  if (device.devid == DeviceId()) return "null";
  return fmt::format(R"({{"devid":{},"uuid":"{}","path":{},"size":{}}})", device.devid.value,
                     device.uuid.to_string(), quoted(device.path), device.size_bytes);
}

std::string time_or_null(int64_t seconds) {
  return seconds == 0 ? "null" : fmt::format("{}", seconds);
}

}  // namespace

std::string_view name_of(State state) {
  switch (state) {
    case State::none:
      return "none";
    case State::armed:
      return "armed";
    case State::copying:
      return "copying";
    case State::suspended:
      return "suspended";
    case State::finishing:
      return "finishing";
    case State::finished:
      return "finished";
    case State::cancelled:
      return "cancelled";
    case State::failed:
      return "failed";
  }
  return "unknown";
}

double fraction_done(const Status& status) {
  if (status.state == State::finished) return 1;
  if (status.bytes_total == 0) return status.state == State::finishing ? 1 : 0;
  const double share =
      static_cast<double>(status.bytes_copied) / static_cast<double>(status.bytes_total);
  return std::min(share, 1.0);
}

std::string to_json(const Status& status) {
  std::string out = fmt::format(R"({{"state":"{}","source":{},"target":{},)", name_of(status.state),
                                json_of(status.source), json_of(status.target));
  out += fmt::format(R"("started":{},"ended":{},)", time_or_null(status.started),
                     time_or_null(status.ended));
  out +=
      fmt::format(R"("bytes_total":{},"bytes_copied":{},"bytes_duplicated":{},"bytes_skipped":{},)"
                  R"("bytes_recopied":{},)",
                  status.bytes_total, status.bytes_copied, status.bytes_duplicated,
                  status.bytes_skipped, status.bytes_recopied);
  out += fmt::format(R"("percent":{:.1f},"cursor_left":{},"rate":{},"eta_seconds":{},)",
                     100 * fraction_done(status), status.cursor_left.value, status.rate,
                     status.eta_seconds ? fmt::format("{}", *status.eta_seconds) : "null");
  out += fmt::format(R"("errors":{{"read_corrected":{},"read_uncorrectable":{},"target_write":{},)"
                     R"("target_flush":{}}},)",
                     status.errors.read_corrected, status.errors.read_uncorrectable,
                     status.errors.target_write, status.errors.target_flush);
  out += fmt::format(R"("start_generation":{},"reason":{}}})", status.start_generation.value,
                     quoted(status.reason));
  return out;
}

}  // namespace moltfs::replace
