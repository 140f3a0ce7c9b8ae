// SPDX-License-Identifier: MIT
// The status of a replace as JSON.
#include "replace/status.h"

#include <algorithm>

#include "alloc/base/json.h"

namespace moltfs::replace {

namespace {

Json json_of(const alloc::DeviceEntry& device) {
  if (device.devid == DeviceId()) return {};
  return Json::object({{"devid", device.devid.value},
                       {"uuid", device.uuid.to_string()},
                       {"path", device.path},
                       {"size", device.size_bytes}});
}

Json time_or_null(int64_t seconds) {
  return seconds == 0 ? Json() : Json(seconds);
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
  const Status::Errors& errors = status.errors;
  const Json json = Json::object({
      {"state", name_of(status.state)},
      {"source", json_of(status.source)},
      {"target", json_of(status.target)},
      {"started", time_or_null(status.started)},
      {"ended", time_or_null(status.ended)},
      {"bytes_total", status.bytes_total},
      {"bytes_copied", status.bytes_copied},
      {"bytes_duplicated", status.bytes_duplicated},
      {"bytes_skipped", status.bytes_skipped},
      {"bytes_recopied", status.bytes_recopied},
      {"percent", Json::fixed(100 * fraction_done(status), 1)},
      {"cursor_left", status.cursor_left.value},
      {"rate", status.rate},
      {"eta_seconds", status.eta_seconds},
      {"errors", Json::object({{"read_corrected", errors.read_corrected},
                               {"read_uncorrectable", errors.read_uncorrectable},
                               {"target_write", errors.target_write},
                               {"target_flush", errors.target_flush}})},
      {"start_generation", status.start_generation.value},
      {"reason", status.reason},
      {"kind", status.rejoin ? "rejoin" : "replace"},
  });
  return json.compact();
}

}  // namespace moltfs::replace
