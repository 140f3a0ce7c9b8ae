// SPDX-License-Identifier: MIT
// Tests of the table of references: which orphans the sink gets, and that it gets each once.
#include "fs/inode/inode_table.h"

#include <vector>

#include "test/support/catch.h"

namespace moltfs::fs {
namespace {

constexpr InodeNumber kOne{300}, kOther{301};

class RecordingSink final : public OrphanSink {
 public:
  void add(InodeNumber ino) override { orphans.push_back(ino); }
  std::vector<InodeNumber> orphans;
};

TEST_CASE("an orphan is reclaimed after its last reference") {
  RecordingSink sink;
  InodeTable table(sink);
  table.take(kOne);
  table.take(kOne);
  table.take(kOther);
  CHECK(table.is_held(kOne));
  table.make_orphan(kOne);
  table.release(kOne, 1);
  CHECK(sink.orphans.empty());
  table.release(kOne, 1);
  CHECK(sink.orphans == std::vector{kOne});
  CHECK_FALSE(table.is_held(kOne));
  table.release(kOne, 1);
  table.release(kOther, 1);
  CHECK(sink.orphans == std::vector{kOne});
}

TEST_CASE("an orphan without references is reclaimed at once") {
  RecordingSink sink;
  InodeTable table(sink);
  table.make_orphan(kOne);
  CHECK(sink.orphans == std::vector{kOne});
}

TEST_CASE("an inode that got a name again is not reclaimed") {
  RecordingSink sink;
  InodeTable table(sink);
  table.take(kOne);
  table.make_orphan(kOne);
  table.adopt(kOne);
  table.release(kOne, 1);
  CHECK(sink.orphans.empty());
  CHECK_FALSE(table.is_held(kOne));
}

TEST_CASE("more references released than taken: no harm") {
  RecordingSink sink;
  InodeTable table(sink);
  table.take(kOne);
  table.release(kOne, 1000);
  CHECK_FALSE(table.is_held(kOne));
  table.take(kOne);
  CHECK(table.is_held(kOne));
  CHECK(sink.orphans.empty());
}

}  // namespace
}  // namespace moltfs::fs
