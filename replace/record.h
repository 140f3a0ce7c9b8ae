// SPDX-License-Identifier: MIT
// The replace record: what a volume remembers of its running or last replace, kept in the replace
// payload of the superblock. On-disk form: FORMAT.md.
#pragma once

#include <string>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/disk/superblock.h"
#include "replace/coverage.h"
#include "replace/status.h"

namespace moltfs::replace {

/// Version 2 has the holes at its end. A record without holes is written as version 1.
inline constexpr uint16_t kRecordVersion = 1, kRecordVersionWithHoles = 2;
inline constexpr size_t kMaxReasonBytes = 1024;

struct Record {
  Status facts;  ///< without rate and eta_seconds, which are not recorded
  /// Open if and only if facts.state is in_progress().
  Coverage coverage;
  /// Right edge of the windows that the last walk had started, and the generation at which
  /// duplication was armed for that walk. What was born before that generation and lies left of the
  /// edge may have been copied although `coverage` does not say so.
  PhysicalOffset started_right;
  Generation walk_before;
  bool operator==(const Record&) const = default;
};

/// Error: bad_item with a sentence, if something in `record` cannot be true.
Result<void> validate(const Record& record);
/// Checks `record` against the superblock that it lies in: its generations are not later than the
/// superblock's (or the next one, with which an arming begins), and the devices of a replace that
/// has not ended are those of the volume. Error: bad_item with a sentence.
Result<void> validate_in(const Record& record, const alloc::Superblock& superblock);
/// An empty payload for a record of state none. Texts that are too long are cut.
std::vector<std::byte> encode(const Record& record);
/// An empty payload is a record of state none. Errors: bad_item, unsupported_feature.
Result<Record> decode_record(ConstBytes payload);
/// For `moltfs dump replace`: one fact on each line.
std::string describe(const Record& record);

}  // namespace moltfs::replace
