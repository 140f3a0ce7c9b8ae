// SPDX-License-Identifier: MIT
// Collecting findings and lost ranges of keys.
#include "fs/check/check_findings.h"

#include <fmt/format.h>

#include <algorithm>

namespace moltfs::fs::checking {

void Findings::keep(Kept finding) {
  ++count_;
  if (kept_.size() < kMaxKept) kept_.push_back(std::move(finding));
}

void Findings::add(std::string where, std::string what) {
  keep({std::nullopt, std::nullopt, std::move(where), std::move(what)});
}

void Findings::add_at(InodeNumber ino, std::optional<uint64_t> offset, std::string what) {
  keep({ino, offset, {}, std::move(what)});
}

void Findings::note(std::string where, std::string what) {
  notes_.push_back({std::move(where), std::move(what)});
}

void Findings::move_to(CheckReport& report,
                       const std::function<std::string(InodeNumber)>& path_of) {
  for (Kept& kept : kept_) {
    if (kept.ino) kept.where = path_of(*kept.ino);
    if (kept.offset) kept.where += fmt::format(" at {}", *kept.offset);
    report.findings.push_back({std::move(kept.where), std::move(kept.what)});
  }
  report.finding_count += count_;
  report.notes = std::move(notes_);
  kept_.clear();
}

void LostKeys::add(const NodeExpectation& node) {
  auto& ranges = of(node.tree);
  if (!ranges.empty() && ranges.back().upper == node.lower) {
    ranges.back().upper = node.upper;
  } else {
    ranges.push_back({node.lower, node.upper});
  }
}

bool LostKeys::may_hold(TreeId tree, const Key& first, const Key& last) const {
  return std::any_of(of(tree).begin(), of(tree).end(), [&](const Range& range) {
    return range.lower <= last && first < range.upper;
  });
}

}  // namespace moltfs::fs::checking
