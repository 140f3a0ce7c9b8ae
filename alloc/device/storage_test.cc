// SPDX-License-Identifier: MIT
// Layers of storages on a machine made of tables.
#include "alloc/device/storage.h"

#include <sys/sysmacros.h>

#include <map>

#include "test/support/catch.h"
#include "test/support/values.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;

struct FakeMachine final : StorageFacts {
  std::map<dev_t, Loop> loops;
  std::map<dev_t, Partition> partitions;
  std::map<dev_t, std::vector<dev_t>> mapped;
  std::map<dev_t, Below> filesystems;

  std::optional<Loop> loop(dev_t number) override {
    const auto found = loops.find(number);
    return found == loops.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<Partition> partition(dev_t number) override {
    const auto found = partitions.find(number);
    return found == partitions.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<dev_t> components(dev_t number) override { return mapped[number]; }
  Below below(dev_t filesystem) override { return filesystems[filesystem]; }

  bool same(const StorageId& a, const StorageId& b) {
    const bool one_way = overlap(layers_of(*this, a), layers_of(*this, b));
    CHECK(overlap(layers_of(*this, b), layers_of(*this, a)) == one_way);
    return one_way;
  }
  bool on(const StorageId& what, dev_t served) {
    return stands_on(*this, layers_of(*this, what), served);
  }
};

StorageId block(dev_t number) {
  return {true, number, 0};
}
StorageId file(dev_t filesystem, uint64_t inode) {
  return {false, filesystem, inode};
}

TEST_CASE("a file and the loop devices on it are one storage; other files are not") {
  FakeMachine machine;
  machine.loops[10] = {file(1, 100)};
  machine.loops[11] = {file(1, 100)};
  machine.loops[12] = {block(11)};
  CHECK(machine.same(file(1, 100), file(1, 100)));
  CHECK(machine.same(block(10), file(1, 100)));
  CHECK(machine.same(block(10), block(11)));
  CHECK(machine.same(block(12), block(10)));
  CHECK(machine.same(block(12), block(11)));
  CHECK(machine.same(block(12), file(1, 100)));
  CHECK_FALSE(machine.same(block(12), file(1, 101)));
  CHECK_FALSE(machine.same(block(12), file(2, 100)));
  CHECK_FALSE(machine.same(file(1, 100), block(1)));
}

TEST_CASE("ranges of one file: loop devices with offsets, partitions of a loop device") {
  FakeMachine machine;
  machine.loops[10] = {file(1, 100)};
  machine.partitions[20] = {10, 1 * kMiB, 9 * kMiB};
  machine.partitions[21] = {10, 10 * kMiB, 10 * kMiB};
  machine.loops[11] = {file(1, 100), 10 * kMiB, 0};
  machine.loops[12] = {file(1, 100), 0, 10 * kMiB};
  CHECK_FALSE(machine.same(block(20), block(21)));
  CHECK_FALSE(machine.same(block(20), block(11)));
  CHECK_FALSE(machine.same(block(21), block(12)));
  CHECK_FALSE(machine.same(block(11), block(12)));
  CHECK(machine.same(block(21), block(11)));
  CHECK(machine.same(block(20), block(12)));
  CHECK(machine.same(block(20), block(10)));
  for (const dev_t number : {10, 11, 12, 20, 21}) CHECK(machine.same(block(number), file(1, 100)));
  // A loop device on a partition: its bytes are further down.
  machine.loops[13] = {block(21), 5 * kMiB, 1 * kMiB};
  CHECK(machine.same(block(13), block(21)));
  CHECK_FALSE(machine.same(block(13), block(20)));
  const auto layers = layers_of(machine, block(13));
  CHECK(layers.back().id == file(1, 100));
  CHECK(layers.back().start == 15 * kMiB);
  CHECK(layers.back().end == 16 * kMiB);
}

TEST_CASE("devices of the device mapper overlap with what is below them, not with each other") {
  FakeMachine machine;
  machine.loops[10] = {file(1, 100)};
  machine.mapped[30] = {10};
  machine.mapped[31] = {10, 40};
  machine.partitions[32] = {30, 1 * kMiB, 1 * kMiB};
  CHECK(machine.same(block(30), block(10)));
  CHECK(machine.same(block(30), file(1, 100)));
  CHECK(machine.same(block(31), block(40)));
  CHECK_FALSE(machine.same(block(30), block(31)));
  CHECK_FALSE(machine.same(block(30), block(40)));
  CHECK(machine.same(block(32), block(30)));
  CHECK(machine.same(block(32), file(1, 100)));
  CHECK_FALSE(machine.same(block(32), block(31)));
}

TEST_CASE("devices whose data lies on a filesystem are found") {
  constexpr dev_t root = 1, served = 2, on_loop = 10, other = 3, upper = 4;
  FakeMachine machine;
  machine.loops[10] = {file(served, 100)};
  machine.loops[11] = {file(root, 100)};
  machine.filesystems[root] = {{block(50)}, {}};
  machine.filesystems[on_loop] = {{block(10)}, {}};
  machine.filesystems[other] = {{}, {root, on_loop}};
  machine.filesystems[upper] = {{}, {other}};
  CHECK(machine.on(file(served, 7), served));
  CHECK(machine.on(block(10), served));
  CHECK(machine.on(file(on_loop, 7), served));
  CHECK(machine.on(file(other, 7), served));
  CHECK(machine.on(file(upper, 7), served));
  CHECK(stands_on(machine, served, served));
  CHECK_FALSE(machine.on(block(11), served));
  CHECK_FALSE(machine.on(file(root, 7), served));
  CHECK_FALSE(machine.on(block(50), served));
  CHECK_FALSE(stands_on(machine, 0, served));
}

TEST_CASE("a mount that is told by the path of a loop device counts as well") {
  FakeMachine machine;
  machine.loops[10] = {file(77, 100)};  // the number of a subvolume, which no mount has
  machine.loops[10].filesystem = 2;
  CHECK(machine.on(block(10), 2));
  CHECK(stands_on(machine, layers_of(machine, file(77, 100), 2), 2));
  CHECK_FALSE(stands_on(machine, layers_of(machine, file(77, 100), 3), 2));
}

TEST_CASE("circles of devices do not loop for ever") {
  FakeMachine machine;
  machine.loops[10] = {block(11)};
  machine.loops[11] = {block(10)};
  machine.filesystems[1] = {{}, {2}};
  machine.filesystems[2] = {{block(10)}, {1}};
  CHECK(layers_of(machine, block(10)).size() > 1);
  CHECK_FALSE(stands_on(machine, 1, 3));
}

TEST_CASE("storages as text") {
  CHECK(to_text({true, makedev(7, 3), 0}) == "block 7:3");
  CHECK(to_text({false, makedev(0, 45), 1234}) == "file 0:45:1234");
  for (const StorageId& id : {block(makedev(7, 3)), file(makedev(0, 45), 1234)}) {
    CHECK(parse_storage_id(to_text(id)) == id);
  }
  for (const char* text : {"", "block", "block ", "block 7", "block 7:3:1", "file 0:45", "file 1",
                           "file 0:45:", "file 0:45:x", "7:3", "disk 7:3", "file 0:45:12 "}) {
    INFO(text);
    CHECK_FALSE(parse_storage_id(text));
  }
}

}  // namespace
}  // namespace moltfs::alloc
