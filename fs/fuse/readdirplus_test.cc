// SPDX-License-Identifier: MIT
// Which listings carry attributes.
#include "fs/fuse/readdirplus.h"

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs::fuse;

namespace {

constexpr pid_t kLister = 1000;

/// Lists `count` directories, from number `first` on. If `looks_up`, looks up files of each that
/// was listed without attributes. Returns how many were listed with attributes.
unsigned list(ReaddirplusHeuristic& heuristic, uint64_t first, unsigned count, bool looks_up) {
  unsigned with = 0;
  for (uint64_t number = first; number < first + count; ++number) {
    const InodeNumber directory(number);
    if (heuristic.begins(directory, kLister)) {
      ++with;
    } else if (looks_up) {
      for (int file = 0; file < 3; ++file) heuristic.file_looked_up(directory);
    }
  }
  return with;
}

}  // namespace

TEST_CASE("programs that only list get no attributes") {
  ReaddirplusHeuristic heuristic;
  CHECK(list(heuristic, 10, 100, false) == 0);
}

TEST_CASE("programs that use attributes get them, except in a sample now and then") {
  ReaddirplusHeuristic heuristic;
  const unsigned count = 10 * ReaddirplusHeuristic::kSample;
  CHECK(list(heuristic, 10, count, true) == count - 10);
}

TEST_CASE("attributes that nobody uses are no longer given after a few samples") {
  ReaddirplusHeuristic heuristic;
  list(heuristic, 10, 2, true);
  const unsigned most = (ReaddirplusHeuristic::kUnused + 1) * ReaddirplusHeuristic::kSample;
  const unsigned with = list(heuristic, 100, 10 * most, false);
  CHECK(with > 0);
  CHECK(with < most);
  CHECK(list(heuristic, 10'000, 2, true) == 1);
}

TEST_CASE("a lookup in another directory says nothing about a listing") {
  ReaddirplusHeuristic heuristic;
  CHECK_FALSE(heuristic.begins(InodeNumber(10), kLister));
  heuristic.file_looked_up(InodeNumber(11));
  CHECK_FALSE(heuristic.begins(InodeNumber(12), kLister));
}

TEST_CASE("lookups count also after subdirectories were listed") {
  ReaddirplusHeuristic heuristic;
  for (uint64_t number = 10; number < 14; ++number)
    CHECK_FALSE(heuristic.begins(InodeNumber(number), kLister));
  heuristic.file_looked_up(InodeNumber(10));
  CHECK(heuristic.begins(InodeNumber(14), kLister));
}

TEST_CASE("only attribute requests of the thread that listed count") {
  ReaddirplusHeuristic heuristic;
  CHECK_FALSE(heuristic.begins(InodeNumber(10), kLister));
  heuristic.file_attributes_read(kLister + 1);
  CHECK_FALSE(heuristic.begins(InodeNumber(11), kLister));
  heuristic.file_attributes_read(kLister);
  CHECK(heuristic.begins(InodeNumber(12), kLister));
}
