// SPDX-License-Identifier: MIT
// The status of a replace: users see it as JSON, the next mount reads it from the record.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "alloc/base/strong_types.h"
#include "alloc/disk/superblock.h"

namespace moltfs::replace {

/// Values are on disk (record.h).
enum class State : uint8_t {
  none = 0,
  armed = 1,
  copying = 2,
  suspended = 3,
  finishing = 4,
  finished = 5,
  cancelled = 6,
  failed = 7,
};
std::string_view name_of(State state);
/// Armed, copying or finishing: writes are duplicated.
constexpr bool in_progress(State state) {
  return state == State::armed || state == State::copying || state == State::finishing;
}

struct Status {
  State state = State::none;
  /// The source, a device that was out, comes back: it is the target as well.
  bool rejoin = false;
  alloc::DeviceEntry source, target;
  int64_t started = 0, ended = 0;  ///< seconds since 1970; 0: not yet
  uint64_t bytes_total = 0;        ///< to copy, as known now; falls when users delete or rewrite
  uint64_t bytes_copied = 0;
  uint64_t bytes_duplicated = 0;
  uint64_t bytes_skipped = 0;   ///< the copier met them, but the target had them already
  uint64_t bytes_recopied = 0;  ///< part of bytes_copied that the target may have had already:
                                ///< windows in flight at a crash or fault
  PhysicalOffset cursor_left;
  uint64_t rate = 0;  ///< bytes copied per second, over the last ten seconds
  std::optional<uint64_t> eta_seconds;
  /// read_*: blocks (data: 4 KiB, nodes: 16 KiB); target_*: requests.
  struct Errors {
    uint64_t read_corrected = 0, read_uncorrectable = 0, target_write = 0, target_flush = 0;
    bool operator==(const Errors&) const = default;
  } errors;
  Generation start_generation;  ///< G0
  std::string reason;           ///< why suspended or failed; the first block that could not be read
  bool operator==(const Status&) const = default;
};

/// One JSON object; README.md lists the keys. Valid UTF-8 even if paths are not.
std::string to_json(const Status& status);
/// Share of bytes_total that is copied, 0..1.
double fraction_done(const Status& status);

}  // namespace moltfs::replace
