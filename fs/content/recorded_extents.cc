// SPDX-License-Identifier: MIT
// The ranges of a chunk that have extent records.
#include "fs/content/recorded_extents.h"

#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

constexpr size_t kRecordsPerSection = 4096;

}  // namespace

Result<std::vector<LogicalRange>> RecordedExtents::allocated_in(LogicalRange chunk) {
  std::vector<LogicalRange> ranges;
  for (LogicalOffset from = chunk.start; from < chunk.end();) {
    TRY(auto some, ranges_from(from, chunk.end()));
    for (const LogicalRange& range : some) {
      if (!ranges.empty() && ranges.back().end() == range.start) {
        ranges.back().length += range.length;
      } else {
        ranges.push_back(range);
      }
    }
    if (some.size() < kRecordsPerSection) break;
    from = some.back().end();
  }
  return ranges;
}

/// One critical section. A record that begins before `from` is included: it may have been split
/// when the previous section ran, and joined since.
Result<std::vector<LogicalRange>> RecordedExtents::ranges_from(LogicalOffset from,
                                                               LogicalOffset end) {
  return transactions_.read([&](Access& access) -> Result<std::vector<LogicalRange>> {
    std::vector<LogicalRange> ranges;
    const auto add = [&](const ExtentRecord& record) {
      ranges.push_back({record.start, record.length});
      return ranges.size() < kRecordsPerSection;
    };
    TRY(visit_records(access, transactions_.extent_tree(), {from, end - from}, add));
    return ranges;
  });
}

}  // namespace moltfs::fs
