// SPDX-License-Identifier: MIT
// Which listings are made with attributes.
#include "fs/fuse/readdirplus.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;

namespace {

constexpr pid_t kLister = 1000;

/// Lists `count` directories, from number `first` on, and looks at the files of each that was
/// listed without attributes, if `looks`. How many were listed with attributes.
unsigned list(ReaddirplusHeuristic& habit, uint64_t first, unsigned count, bool looks) {
  unsigned with = 0;
  for (uint64_t number = first; number < first + count; ++number) {
    const InodeNumber directory(number);
    if (habit.begins(directory, kLister)) {
      ++with;
    } else if (looks) {
      for (int file = 0; file < 3; ++file) habit.file_looked_up(directory);
    }
  }
  return with;
}

}  // namespace

TEST_CASE("who only lists gets no attributes") {
  ReaddirplusHeuristic habit;
  CHECK(list(habit, 10, 100, false) == 0);
}

TEST_CASE("who looks at the files gets them, but for a sample now and then") {
  ReaddirplusHeuristic habit;
  const unsigned count = 10 * ReaddirplusHeuristic::kSample;
  CHECK(list(habit, 10, count, true) == count - 10);
}

TEST_CASE("attributes that nobody looks at are given up after a few samples") {
  ReaddirplusHeuristic habit;
  list(habit, 10, 2, true);
  const unsigned most = (ReaddirplusHeuristic::kUnused + 1) * ReaddirplusHeuristic::kSample;
  const unsigned with = list(habit, 100, 10 * most, false);
  CHECK(with > 0);
  CHECK(with < most);
  CHECK(list(habit, 10'000, 2, true) == 1);
}

TEST_CASE("files looked at elsewhere say nothing of a listing") {
  ReaddirplusHeuristic habit;
  CHECK_FALSE(habit.begins(InodeNumber(10), kLister));
  habit.file_looked_up(InodeNumber(11));
  CHECK_FALSE(habit.begins(InodeNumber(12), kLister));
}

TEST_CASE("files beside subdirectories that were listed first count, too") {
  ReaddirplusHeuristic habit;
  for (uint64_t number = 10; number < 14; ++number)
    CHECK_FALSE(habit.begins(InodeNumber(number), kLister));
  habit.file_looked_up(InodeNumber(10));
  CHECK(habit.begins(InodeNumber(14), kLister));
}

TEST_CASE("attributes asked for by who listed the directory count, and by nobody else") {
  ReaddirplusHeuristic habit;
  CHECK_FALSE(habit.begins(InodeNumber(10), kLister));
  habit.file_looked_at(kLister + 1);
  CHECK_FALSE(habit.begins(InodeNumber(11), kLister));
  habit.file_looked_at(kLister);
  CHECK(habit.begins(InodeNumber(12), kLister));
}
