// SPDX-License-Identifier: MIT
// Images whose fields claim what no mount would have written, with checksums in order. A mount must
// refuse them with a sentence, or report damage of the object concerned.
#include <sys/stat.h>

#include "alloc/base/log.h"
#include "fs/mount/hostile_test_util.h"
#include "fs/names/directory.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

constexpr uint64_t kNever = ~uint64_t{0};

void put_inode_of(HostileVolume& p, uint64_t ino) {
  p.put(TreeId::fs, inode_key(InodeNumber{ino}),
        p.item(TreeId::fs, inode_key(ino_of("/dir/small"))));
}

/// Coverage as it is on disk: the library does not make such tables.
replace::Coverage coverage_of(const std::vector<replace::Coverage::Interval>& intervals) {
  ByteWriter out;
  out.u16(static_cast<uint16_t>(intervals.size()));
  for (const auto& interval : intervals) {
    out.u64(interval.first.value);
    out.u64(interval.last.value);
    out.u8(interval.all ? 1 : 0);
    out.u64(interval.all ? 0 : interval.up_to.value);
  }
  ByteReader reader(out.span());
  return must(replace::Coverage::decode(reader));
}

}  // namespace

TEST_CASE("a next inode number that is in use is passed over") {
  for (const uint64_t back : {1, 2, 500}) {
    HostileVolume p;
    const uint64_t next = p.next_inode();
    p.change_counters([&](FsCounters& counters) { counters.next_inode = next - back; });
    CHECK(has(p.check_it(), "superblock", "the next inode number is"));
    auto mount = p.mount();
    const auto made = must(mount->filesystem().make(kRootInode, "new", S_IFREG | 0644, 0, {}));
    CHECK(made.ino.value >= next);
    must(mount->close());
  }
}

TEST_CASE("a new inode does not inherit what lies under its number") {
  HostileVolume p;
  const uint64_t next = p.next_inode();
  p.put(TreeId::fs, symlink_key(InodeNumber{next}, 0), bytes_of("planted"));
  p.put(TreeId::fs, symlink_key(InodeNumber{next + 1}, 0), bytes_of("planted"));
  p.change_counters([&](FsCounters& counters) { counters.next_inode = next; });
  auto mount = p.mount();
  const auto made = must(mount->filesystem().symlink(kRootInode, "link", "target", {}));
  CHECK(made.ino.value > next + 1);
  CHECK(must(mount->filesystem().read_symlink(made.ino)) == "target");
}

TEST_CASE("inode numbers end before they could be those of the control files") {
  SECTION("in the superblock") {
    HostileVolume p;
    p.change_counters([](FsCounters& counters) { counters.next_inode = kNever; });
    const auto mount = p.try_mount();
    REQUIRE_FALSE(mount);
    CHECK(mount.error().message().find("next inode number is 18446744073709551615") !=
          std::string::npos);
  }
  SECTION("the last number") {
    HostileVolume p;
    p.change_counters([](FsCounters& counters) { counters.next_inode = kInodeNumbersEnd - 1; });
    auto mount = p.mount();
    Filesystem& fs = mount->filesystem();
    CHECK(must(fs.make(kRootInode, "last", S_IFREG | 0644, 0, {})).ino.value ==
          kInodeNumbersEnd - 1);
    CHECK(fs.make(kRootInode, "none", S_IFREG | 0644, 0, {}).error() == Errc::no_space);
    must(fs.commit());
  }
  SECTION("in an inode item or an entry") {
    for (const uint64_t ino : {uint64_t{2}, uint64_t{10}, kInodeNumbersEnd, kNever - 1}) {
      HostileVolume p;
      put_inode_of(p, ino);
      const Key entry = p.key_of_entry("/dir", "small");
      auto value = p.item(TreeId::fs, entry);
      std::memcpy(value.data(), &ino, sizeof ino);
      p.put(TreeId::fs, entry, value);
      auto mount = p.mount();
      CHECK(mount->filesystem().lookup(ino_of("/dir"), "small").error() == Errc::bad_item);
      CHECK_FALSE(mount->filesystem().attributes(InodeNumber{ino}));
      CHECK(mount->filesystem().lookup(ino_of("/dir"), "other"));
    }
  }
}

TEST_CASE("orphan marks of impossible inodes do not keep the mount") {
  HostileVolume p;
  // With the orphan of the sample as many as the search for marks reads at once: it continues after
  // the last one, which has the highest number there is.
  for (uint64_t i = 0; i < 1023; i += 11) {
    p.edit([&](Txn& txn, const Tree& tree, const Tree&) -> Result<void> {
      for (uint64_t k = i; k < i + 11; ++k) {
        TRY(tree.prepare(txn, orphan_key(InodeNumber{kNever - k}), Tree::Intent::put));
      }
      for (uint64_t k = i; k < i + 11; ++k) {
        tree.put(txn, orphan_key(InodeNumber{kNever - k}), bytes_of("\1"));
      }
      return ok();
    });
  }
  set_log_sink([](LogLevel, const std::string&) {});
  auto mount = p.mount();
  must(mount->close());
  set_log_sink({});
}

TEST_CASE("an ACL in many parts is replaced and chmod reports it") {
  HostileVolume p;
  const InodeNumber ino = ino_of("/dir/other");
  Key head;
  for (const Key& key : p.keys_of("/dir/other", ItemType::xattr)) {
    if (must(decode_xattr(key, p.item(TreeId::fs, key))).name == kAccessAclName) head = key;
  }
  auto value = p.item(TreeId::fs, head);
  const size_t name_end = sizeof(XattrOnDisk) + kAccessAclName.size();
  const std::vector<std::byte> acl(value.begin() + static_cast<ptrdiff_t>(name_end), value.end());
  // The whole value in part 254, empty parts before it.
  value.resize(name_end);
  value[5] = std::byte{255};
  p.put(TreeId::fs, head, value);
  for (unsigned part = 1; part < 255; ++part) {
    p.put(TreeId::fs, xattr_key(ino, head.offset + part), part == 254 ? acl : bytes_of(""));
  }
  auto mount = p.mount();
  SetAttributes set;
  set.mode = 0700;
  CHECK(mount->filesystem().set_attributes(ino, set).error() == Errc::bad_item);
  must(mount->filesystem().set_xattr(ino, kAccessAclName, acl, XattrMode::any, false));
  must(mount->filesystem().set_attributes(ino, set));
  must(mount->close());
}

TEST_CASE("directories whose parents form a loop are reported by rename") {
  HostileVolume p;
  p.change_inode("/dir/sub", [](InodeOnDisk& disk) { disk.parent = ino_of("/dir").value; });
  p.change_inode("/dir", [](InodeOnDisk& disk) { disk.parent = ino_of("/dir/sub").value; });
  p.change_counters([](FsCounters& counters) { counters.inode_count = kInodeNumbersEnd; });
  auto mount = p.mount();
  const auto renamed = mount->filesystem().rename(kRootInode, "many", ino_of("/dir/sub"), "many",
                                                  RenameMode::replace, {});
  REQUIRE_FALSE(renamed);
  CHECK(renamed.error() == Errc::bad_item);
}

TEST_CASE("the search for a name ends at items of impossible inodes") {
  HostileVolume p;
  p.put(TreeId::fs, extent_key(InodeNumber{kNever}, 0), bytes_of("0123456789abcdef"));
  const InodeNumber unnamed{p.next_inode()};
  put_inode_of(p, unnamed.value);  // it has no name, so the whole tree is searched
  auto mount = p.mount();
  CHECK(mount->filesystem().path_of(unnamed) == fmt::format("<inode {}>", unnamed.value));
}

TEST_CASE("a preallocated extent that is not the file's own is not written in place") {
  HostileVolume p;
  const Key key = p.keys_of("/dir/sub/big", ItemType::extent).back();
  const Extent extent = p.extent(key);
  REQUIRE(extent.unwritten);
  const auto root =
      p.read([&](alloc::Volume&, TreeReader&, const auto& roots) { return roots[0]; });
  SECTION("it is the root of the tree") {
    const PreallocatedPair pair(root.node.address, kNodeSize, ino_of("/dir/sub/big"),
                                extent.file_offset);
    p.edit([&](Txn& txn, const Tree& fs, const Tree& tree) -> Result<void> {
      TRY(fs.prepare(txn, key, Tree::Intent::put));
      TRY(tree.prepare(txn, record_key(root.node.address), Tree::Intent::put));
      fs.put(txn, key, object_bytes(pair.extent));
      tree.put(txn, record_key(root.node.address), object_bytes(pair.record));
      return ok();
    });
  }
  SECTION("it overlaps the extent of another file") {
    const Extent other = p.extent(p.keys_of("/dir/other", ItemType::extent).front());
    const LogicalOffset within = other.logical + kBlockSize;
    const PreallocatedPair pair(within, kBlockSize, ino_of("/dir/sub/big"), extent.file_offset);
    p.put(TreeId::fs, key, object_bytes(pair.extent));
    p.put(TreeId::extent, record_key(within), object_bytes(pair.record));
  }
  auto mount = p.mount();
  AlignedBuffer buffer(kBlockSize);
  std::fill(buffer.data(), buffer.data() + kBlockSize, std::byte{'x'});
  const auto written =
      mount->filesystem().write(ino_of("/dir/sub/big"), extent.file_offset, buffer.span(), {});
  REQUIRE_FALSE(written);
  CHECK(written.error() == Errc::bad_item);
  mount->abandon();
  mount.reset();
  auto again = p.mount();
  AlignedBuffer content(20'480);
  CHECK(must(again->filesystem().read(ino_of("/dir/other"), 0, content.span())) == 20'000);
}

TEST_CASE("an extent record born in the future is damage of its file") {
  HostileVolume p;
  const Extent extent = p.extent(p.keys_of("/dir/other", ItemType::extent).front());
  auto value = p.item(TreeId::extent, record_key(extent.logical));
  const uint64_t birth = superblock_of(p).generation.value + 1000;
  std::memcpy(value.data(), &birth, sizeof birth);
  p.put(TreeId::extent, record_key(extent.logical), value);
  CHECK(has(p.check_it(), "/dir/other at 0", "born in generation"));
  auto mount = p.mount();
  AlignedBuffer content(kBlockSize);
  CHECK(mount->filesystem().read(ino_of("/dir/other"), 0, content.span()).error() ==
        Errc::bad_item);
  CHECK(mount->filesystem().read(ino_of("/dir/sub/big"), 0, content.span()));
}

TEST_CASE("times of any year can be read") {
  HostileVolume p;
  p.change_inode("/dir/other", [](InodeOnDisk& disk) {
    disk.atime.seconds = INT64_MIN;
    disk.mtime.seconds = INT64_MIN;
    disk.ctime.seconds = INT64_MIN;
  });
  auto mount = p.mount();
  AlignedBuffer content(kBlockSize);
  CHECK(mount->filesystem().read(ino_of("/dir/other"), 0, content.span()));
  CHECK(must(mount->filesystem().attributes(ino_of("/dir/other"))).atime.seconds > 0);
}

TEST_CASE("a replace record about devices that the volume does not have is dropped") {
  HostileVolume p;
  auto record = suspended_record(superblock_of(p));
  SECTION("another devid") {
    record.facts.source.devid = record.facts.target.devid = DeviceId(77);
  }
  SECTION("another uuid") {
    record.facts.source.uuid.bytes[3] ^= 1;
  }
  p.set_record(record);
  CHECK(has(p.check_it(), "superblock", "is not a member"));
  auto mount = p.mount();
  CHECK(mount->replace().status().state == replace::State::none);
  CHECK(mount->replace().resume().error() == Errc::no_replace);
  must(mount->filesystem().commit());
}

TEST_CASE("a replace record about generations to come is dropped") {
  HostileVolume p;
  const auto super = superblock_of(p);
  const Generation now = super.generation;
  auto record = suspended_record(super);
  SECTION("coverage that has ended") {
    record.coverage = coverage_of({{now, now + 1, true, {}}});
  }
  SECTION("coverage that is open") {
    record.facts.state = replace::State::copying;
    record.coverage = coverage_of({{now + 2, replace::kOpenEnd, true, {}}});
  }
  SECTION("coverage before the first generation") {
    record.facts.start_generation = now;
    record.coverage = coverage_of({{now - 1, now, true, {}}});
  }
  SECTION("the first generation") {
    record.facts.start_generation = now + 2;
  }
  p.set_record(record);
  CHECK_FALSE(p.check_it().clean());
  auto mount = p.mount();
  CHECK(mount->replace().status().state == replace::State::none);
  must(mount->filesystem().commit());
}

TEST_CASE("coverage with more gaps than can be filled is mounted and written") {
  HostileVolume p;
  for (int i = 0; i < 520; ++i) {
    p.edit([](Txn& txn, const Tree&, const Tree&) -> Result<void> {
      (void)txn.counters_for_change();
      return ok();
    });
  }
  p.devices.add("mem:target", 64 << 20);
  {
    auto mount = p.mount();
    must(mount->replace().start({"1", "mem:target", false}));
    mount->abandon();  // in the middle of the copy
  }
  p.change_superblock([](alloc::Superblock& super) {
    auto record = must(replace::decode_record(super.replace_payload));
    REQUIRE(replace::in_progress(record.facts.state));
    record.facts.cursor_left = PhysicalOffset(16 << 20);
    record.facts.start_generation = Generation(1);
    std::vector<replace::Coverage::Interval> intervals;
    for (uint64_t g = 1; g + 1 < super.generation.value; g += 2) {
      intervals.push_back({Generation(g), Generation(g), true, {}});
    }
    intervals.push_back({super.generation, replace::kOpenEnd, true, {}});
    REQUIRE(2 * intervals.size() > replace::Coverage::kMaxIntervals);
    record.coverage = coverage_of(intervals);
    super.replace_payload = encode(record);
  });
  auto mount = p.mount();
  must(mount->filesystem().make(kRootInode, "new", S_IFREG | 0644, 0, {}));
  must(mount->filesystem().commit());
  CHECK(mount->replace().status().state != replace::State::none);
  must(mount->close());
}

TEST_CASE("near the last generation a volume is only mounted read-only") {
  HostileVolume p;
  p.change_superblock([](alloc::Superblock& super) { super.generation = alloc::kMaxGeneration; });
  CHECK(has(p.check_it(false), "superblock", "too close to the last one"));
  const auto mount = p.try_mount();
  REQUIRE_FALSE(mount);
  CHECK(mount.error().message().find("can only be mounted read-only") != std::string::npos);
  CHECK(p.try_mount(true));
}

TEST_CASE("a volume whose logical addresses are used up is full") {
  HostileVolume p;
  p.change_superblock(
      [](alloc::Superblock& super) { super.next_logical = LogicalOffset(alloc::kMaxLogical); });
  CHECK(p.check_it().clean());
  auto mount = p.mount();
  const auto file = must(mount->filesystem().make(kRootInode, "new", S_IFREG | 0644, 0, {}));
  AlignedBuffer buffer(1 << 20);
  buffer.fill_zero();
  Result<uint64_t> written = uint64_t{0};
  for (uint64_t at = 0; written && at < 64 << 20; at += buffer.size()) {
    written = mount->filesystem().write(file.ino, at, buffer.span(), {});
  }
  REQUIRE_FALSE(written);
  CHECK(written.error() == Errc::no_space);
  must(mount->filesystem().commit());
  must(mount->close());
  mount.reset();
  CHECK(p.check_it().clean());
}
