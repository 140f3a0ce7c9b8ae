// SPDX-License-Identifier: MIT
// Tests of the table of references: who is told that an orphan can go, and that it is told once.
#include "fs/inode/inode_table.h"

#include "test/support/catch.h"

namespace moltfs::fs {
namespace {

constexpr InodeNumber kIno{300}, kOther{301};

TEST_CASE("an orphan goes with its last reference") {
  RealRuntime runtime;
  InodeTable table(runtime);
  table.take(kIno);
  table.take(kIno);
  table.take(kOther);
  CHECK(table.is_held(kIno));
  CHECK_FALSE(table.make_orphan(kIno));
  CHECK_FALSE(table.give_back(kIno, 1));
  CHECK(table.give_back(kIno, 1));
  CHECK_FALSE(table.is_held(kIno));
  CHECK_FALSE(table.give_back(kIno, 1));
  CHECK_FALSE(table.give_back(kOther, 1));
}

TEST_CASE("one that nobody holds goes at once") {
  RealRuntime runtime;
  InodeTable table(runtime);
  CHECK(table.make_orphan(kIno));
}

TEST_CASE("an adopted inode stays") {
  RealRuntime runtime;
  InodeTable table(runtime);
  table.take(kIno);
  CHECK_FALSE(table.make_orphan(kIno));
  table.adopt(kIno);
  CHECK_FALSE(table.give_back(kIno, 1));
}

TEST_CASE("more given back than taken does no harm") {
  RealRuntime runtime;
  InodeTable table(runtime);
  table.take(kIno);
  CHECK_FALSE(table.give_back(kIno, 1000));
  CHECK_FALSE(table.is_held(kIno));
  table.take(kIno);
  CHECK(table.is_held(kIno));
}

}  // namespace
}  // namespace moltfs::fs
