// SPDX-License-Identifier: MIT
// A healthy volume has no findings. Each kind of damage has its own finding, at the right path.
#include "fs/check/check.h"

#include "fs/check/check_test_util.h"
#include "fs/inode/orphan_mark.h"
#include "fs/names/dir_entry.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

std::vector<std::byte> raw_entry(InodeNumber ino, uint8_t type, const std::string& name) {
  DirEntryOnDisk disk;
  disk.inode = ino.value;
  disk.type = type;
  disk.name_length = static_cast<uint8_t>(name.size());
  ByteWriter writer;
  writer.object(disk);
  writer.bytes(std::as_bytes(std::span(name)));
  return writer.take();
}

std::vector<std::byte> raw_extent(LogicalOffset logical, uint32_t length, uint32_t flags = 0) {
  FileExtentOnDisk disk;
  disk.logical = logical.value;
  disk.length = length;
  disk.flags = flags;
  ByteWriter writer;
  writer.object(disk);
  return writer.take();
}

}  // namespace

TEST_CASE("a healthy volume has no findings, and everything is counted") {
  DamagedVolume p;
  const auto before = p.disk().clone();
  const CheckReport report = p.check_it();
  INFO(all_findings(report));
  CHECK(report.clean());
  CHECK(report.notes.empty());
  CHECK(report.inodes == healthy().inodes.size() + 1);  // the orphan
  CHECK(report.directories == 4);
  CHECK(report.nodes > 30);
  CHECK(report.extents > 300);
  CHECK(report.data_bytes_verified > 3'000'000);
  CHECK(p.disk().same_content(*before));
  CHECK(p.check_it(false).data_bytes_verified == 0);
}

TEST_CASE("progress ends at the total") {
  DamagedVolume p;
  CheckOptions options;
  options.data = true;
  uint64_t last = 0, total = 0, calls = 0;
  options.progress = [&](uint64_t done, uint64_t of) {
    CHECK(done >= last);
    last = done;
    total = of;
    ++calls;
  };
  CHECK(must(check(p.runtime, p.devices, {"mem:a"}, options)).clean());
  CHECK(calls > 10);
  CHECK(total > 3'000'000);
  CHECK(last == total);
}

TEST_CASE("damage to links and names is found") {
  DamagedVolume p;
  SECTION("link count of a file") {
    p.change_inode("/dir/small", [](InodeOnDisk& inode) { inode.links = 3; });
    const auto report = p.check_it();
    CHECK((has(report, "/dir/small", "has 3 links, but 2") ||
           has(report, "/dir/sub/linked", "has 3 links, but 2")));
    CHECK(report.finding_count == 1);
  }
  SECTION("link count of a directory") {
    p.change_inode("/dir", [](InodeOnDisk& inode) { inode.links = 4; });
    const auto report = p.check_it();
    CHECK(has(report, "/dir", "has 4 links, but 1 subdirectories"));
    CHECK(report.finding_count == 1);
  }
  SECTION("an entry without an inode") {
    p.erase(TreeId::fs, inode_key(ino_of("/dir/pipe")));
    const auto report = p.check_it();
    CHECK(has(report, "/dir/pipe", "which does not exist"));
    CHECK(has(report, "superblock", "counts"));
    CHECK(report.finding_count == 2);
  }
  SECTION("an inode without an entry") {
    p.erase(TreeId::fs, p.key_of_entry("/dir", "pipe"));
    const auto report = p.check_it();
    CHECK(has(report, "<inode " + std::to_string(ino_of("/dir/pipe").value) + ">",
              "no directory has an entry for it"));
    CHECK(has(report, "/dir", "its entries add up to"));
    CHECK(report.finding_count == 2);
  }
  SECTION("a file with neither a name nor the mark of an orphan") {
    p.erase(TreeId::fs, p.key_of_entry("/dir", "pipe"));
    p.change_inode("/dir/pipe", [](InodeOnDisk& inode) { inode.links = 0; });
    CHECK(has(p.check_it(), "<inode " + std::to_string(ino_of("/dir/pipe").value) + ">",
              "neither a name nor the mark of an orphan"));
  }
  SECTION("an entry under a wrong hash") {
    const Key key = p.key_of_entry("/dir", "pipe");
    const auto value = p.item(TreeId::fs, key);
    p.erase(TreeId::fs, key);
    p.put(TreeId::fs, {key.object, key.type, key.offset ^ 0x100000}, value);
    const auto report = p.check_it();
    CHECK(has(report, "/dir", "\"pipe\" is stored under a wrong hash"));
    CHECK(report.finding_count == 1);
  }
  SECTION("two entries of one name") {
    Key key = p.key_of_entry("/dir", "pipe");
    const auto value = p.item(TreeId::fs, key);
    ++key.offset;
    p.put(TreeId::fs, key, value);
    CHECK(has(p.check_it(), "/dir", "two entries \"pipe\""));
  }
  SECTION("an entry of another type") {
    p.put(TreeId::fs, p.key_of_entry("/dir", "pipe"), raw_entry(ino_of("/dir/pipe"), 8, "pipe"));
    const auto report = p.check_it();
    CHECK(has(report, "/dir/pipe", "has type 8, the inode has 1"));
    CHECK(report.finding_count == 1);
  }
  SECTION("an invalid entry") {
    p.put(TreeId::fs, p.key_of_entry("/dir", "pipe"), raw_entry(ino_of("/dir/pipe"), 8, "a/b"));
    CHECK(has(p.check_it(), "/dir", "impossible name"));
  }
  SECTION("a wrong parent") {
    p.change_inode("/dir/sub", [](InodeOnDisk& inode) { inode.parent = ino_of("/many").value; });
    const auto report = p.check_it();
    CHECK(has(report, "/dir/sub", "but its name is in inode"));
    CHECK(report.finding_count == 1);
  }
  SECTION("a directory with two names") {
    const uint64_t seed = p.read([](alloc::Volume& volume, TreeReader&, const auto&) {
      return must(decode_fs_payload(volume.superblock().fs_payload)).counters.hash_seed;
    });
    p.put(TreeId::fs, entry_key(ino_of("/many"), entry_offset("again", seed)),
          raw_entry(ino_of("/dir/sub"), 4, "again"));
    CHECK(p.check_it().finding_count >= 1);
    const std::string all = all_findings(p.check_it());
    CHECK(all.find("2 entries name this directory") != std::string::npos);
  }
  SECTION("directories that are inside each other") {
    const Key key = p.key_of_entry("/", "dir");
    p.erase(TreeId::fs, key);
    Key inside = key;
    inside.object = ino_of("/dir/sub").value;
    p.put(TreeId::fs, inside, raw_entry(ino_of("/dir"), 4, "dir"));
    p.change_inode("/dir", [](InodeOnDisk& i) { i.parent = ino_of("/dir/sub").value; });
    p.change_inode("/dir/sub", [](InodeOnDisk& i) {
      i.links = 3;
      i.size = i.size + 13;
    });
    p.change_inode("/", [](InodeOnDisk& i) {
      i.links = i.links - 1;
      i.size = i.size - 13;
    });
    const auto report = p.check_it();
    CHECK(all_findings(report).find("this directory is inside itself") != std::string::npos);
    CHECK(report.finding_count == 1);
  }
  SECTION("the wrong size of a directory") {
    p.change_inode("/dir", [](InodeOnDisk& inode) { inode.size = inode.size + 1; });
    CHECK(has(p.check_it(), "/dir", "its entries add up to"));
  }
  SECTION("no root") {
    p.erase(TreeId::fs, inode_key(kRootInode));
    CHECK(has(p.check_it(), "/", "there is no root directory"));
  }
}

TEST_CASE("damage to inodes, marks of orphans and counters is found") {
  DamagedVolume p;
  SECTION("an invalid inode") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.mode = 0; });
    CHECK(has(p.check_it(), "/dir/other", "impossible mode"));
  }
  SECTION("a mark without an inode") {
    const OrphanOnDisk mark{static_cast<uint8_t>(OrphanKind::remove)};
    p.put(TreeId::fs, orphan_key(InodeNumber{999'999}), std::as_bytes(std::span(&mark, 1)));
    const auto report = p.check_it();
    CHECK(has(report, "<inode 999999>", "marked as an orphan, but does not exist"));
    CHECK(report.finding_count == 1);
  }
  SECTION("a mark of an inode with a name") {
    const OrphanOnDisk mark{static_cast<uint8_t>(OrphanKind::remove)};
    p.put(TreeId::fs, orphan_key(ino_of("/dir/pipe")), std::as_bytes(std::span(&mark, 1)));
    CHECK(has(p.check_it(), "/dir/pipe", "marked for removal, but has 1 links"));
  }
  SECTION("the counters") {
    p.edit([](Txn& txn, const Tree&, const Tree&) -> Result<void> {
      txn.counters_for_change().inode_count += 2;
      txn.counters_for_change().next_inode = 300;
      return ok();
    });
    const auto report = p.check_it();
    CHECK(has(report, "superblock", "the next inode number is 300"));
    CHECK(has(report, "superblock", "inodes, there are"));
    CHECK(report.finding_count == 2);
  }
  SECTION("items of an inode that does not exist") {
    p.put(TreeId::fs, inline_key(InodeNumber{888'888}), bytes_of("who am I"));
    CHECK(has(p.check_it(), "<inode 888888>", "items of this inode, but no inode"));
  }
  SECTION("items of unknown type") {
    p.put(TreeId::fs, {ino_of("/dir/pipe").value, 77, 0}, bytes_of("what am I"));
    p.put(TreeId::fs, {0, 77, 0}, bytes_of("what am I"));
    p.put(TreeId::extent, {12345, 77, 0}, bytes_of("what am I"));
    const auto report = p.check_it();
    CHECK(has(report, "/dir/pipe", "unknown type 77"));
    CHECK(has(report, "filesystem tree", "of unknown type"));
    CHECK(has(report, "extent tree", "of unknown type"));
    CHECK(report.finding_count == 3);
  }
  SECTION("a device number without a device") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.device = 5; });
    CHECK(has(p.check_it(), "/dir/other", "is not a device node"));
  }
}

TEST_CASE("damage to attributes and ACLs is found") {
  DamagedVolume p;
  const auto keys = p.keys_of("/dir/sub/big", ItemType::xattr);
  SECTION("a missing part") {
    REQUIRE(keys.size() > 4);
    const auto last = std::find_if(keys.rbegin(), keys.rend(),
                                   [](const Key& key) { return xattr_part_of(key) > 1; });
    p.erase(TreeId::fs, *last);
    CHECK(has(p.check_it(), "/dir/sub/big", "user.long has"));
  }
  SECTION("a missing head") {
    const auto second = std::find_if(keys.begin(), keys.end(),
                                     [](const Key& key) { return xattr_part_of(key) == 1; });
    p.erase(TreeId::fs, {second->object, second->type, second->offset - 1});
    CHECK(has(p.check_it(), "/dir/sub/big", "without the parts before"));
  }
  SECTION("a wrong hash") {
    const auto only = std::find_if(keys.begin(), keys.end(), [&](const Key& key) {
      return p.item(TreeId::fs, key).size() < 100;
    });
    const auto value = p.item(TreeId::fs, *only);
    p.erase(TreeId::fs, *only);
    p.put(TreeId::fs, {only->object, only->type, only->offset ^ (uint64_t{1} << 40)}, value);
    const auto report = p.check_it();
    CHECK(has(report, "/dir/sub/big", "wrong hash"));
  }
  SECTION("mode against access ACL") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.mode = 0100600; });
    CHECK(has(p.check_it(), "/dir/other", "its mode is 600"));
  }
}

TEST_CASE("damage to the content of files is found") {
  DamagedVolume p;
  const auto extents = p.keys_of("/dir/sub/big", ItemType::extent);
  REQUIRE(extents.size() > 10);
  const Key second = extents[1];
  const Extent extent = p.extent(second);
  const std::string there = "/dir/sub/big at " + std::to_string(extent.file_offset);

  SECTION("the inline flag") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) {
      inode.flags = kInodeInline;
      inode.size = 100;
    });
    const auto report = p.check_it();
    CHECK(has(report, "/dir/other", "its inline data is missing"));
    CHECK(has(report, "/dir/other", "both extents and inline data"));
  }
  SECTION("no inline flag") {
    p.change_inode("/many/file1", [](InodeOnDisk& inode) { inode.flags = 0; });
    CHECK(has(p.check_it(), "/many/file1", "its inode says it has none"));
  }
  SECTION("inline size") {
    p.change_inode("/many/file1", [](InodeOnDisk& inode) { inode.size = 2; });
    CHECK(has(p.check_it(), "/many/file1", "its size is 2"));
  }
  SECTION("allocated bytes") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.allocated_bytes = 4096; });
    const auto report = p.check_it();
    CHECK(has(report, "/dir/other", "4096 bytes are allocated, its extents have 20480"));
    CHECK(report.finding_count == 1);
  }
  SECTION("data after the end of the file") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.size = 5000; });
    CHECK(has(p.check_it(), "/dir/other", "has data up to 20480, but its size is 5000"));
  }
  SECTION("data after the end during a truncate is not a finding") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.size = 5000; });
    const OrphanOnDisk mark{static_cast<uint8_t>(OrphanKind::truncate)};
    p.put(TreeId::fs, orphan_key(ino_of("/dir/other")), std::as_bytes(std::span(&mark, 1)));
    const auto report = p.check_it();
    INFO(all_findings(report));
    CHECK(report.clean());
  }
  SECTION("nonzero bytes after the end in the last block") {
    p.change_inode("/dir/other", [](InodeOnDisk& inode) { inode.size = 19'000; });
    CHECK(p.check_it(false).clean());
    CHECK(has(p.check_it(), "/dir/other at 19000", "are not zero"));
  }
  SECTION("a missing record") {
    p.erase(TreeId::extent, record_key(extent.logical));
    const auto report = p.check_it();
    CHECK(has(report, there, "has no record"));
    CHECK(report.finding_count == 2);  // and the usage
  }
  SECTION("a missing file extent") {
    p.erase(TreeId::fs, second);
    const auto report = p.check_it();
    CHECK(has(report, there, "the file has no extent there"));
    CHECK(has(report, "/dir/sub/big", "bytes are allocated"));
    CHECK(report.finding_count == 2);
  }
  SECTION("two owners of one extent") {
    p.put(TreeId::fs, extent_key(ino_of("/dir/other"), 1 << 20),
          raw_extent(extent.logical, static_cast<uint32_t>(extent.length)));
    CHECK(has(p.check_it(), "/dir/other at 1048576", "names inode"));
  }
  SECTION("record and extent disagree about the length") {
    p.put(TreeId::fs, second, raw_extent(extent.logical, 4096, kExtentUnwritten));
    CHECK(has(p.check_it(), there, "differ"));
  }
  SECTION("overlapping extents of a file") {
    const Extent first = p.extent(extents[0]);
    p.put(TreeId::fs, extents[0],
          raw_extent(first.logical, static_cast<uint32_t>(first.length + 4096)));
    CHECK(has(p.check_it(), there, "two extents overlap"));
  }
  SECTION("an extent outside data chunks") {
    p.put(TreeId::fs, second, raw_extent(LogicalOffset{1ull << 40}, 4096));
    auto record = p.item(TreeId::extent, record_key(extent.logical));
    p.put(TreeId::extent, record_key(LogicalOffset{1ull << 40}), record);
    CHECK(has(p.check_it(), there, "is not inside a data chunk"));
  }
  SECTION("an extent born in the future") {
    auto record = p.item(TreeId::extent, record_key(extent.logical));
    ExtentRecordOnDisk disk;
    std::memcpy(&disk, record.data(), sizeof(disk));
    disk.birth = 1'000'000;
    std::memcpy(record.data(), &disk, sizeof(disk));
    p.put(TreeId::extent, record_key(extent.logical), record);
    CHECK(has(p.check_it(), there, "born in generation 1000000, after the volume's"));
  }
  SECTION("the usage of a chunk") {
    const auto usage = p.keys(TreeId::extent, usage_key(LogicalOffset{0}), Key::max());
    REQUIRE(!usage.empty());
    ChunkUsageOnDisk disk;
    disk.used_bytes = 4096;
    p.put(TreeId::extent, usage.front(), std::as_bytes(std::span(&disk, 1)));
    const auto report = p.check_it();
    CHECK(has(report, "chunk " + std::to_string(usage.front().offset), "says 4096 bytes"));
    CHECK(report.finding_count == 1);
  }
}

TEST_CASE("rot is found on every copy") {
  DamagedVolume p;
  SECTION("of data") {
    const Extent extent = p.extent(p.keys_of("/dir/other", ItemType::extent).front());
    const uint64_t place = p.place(extent.logical, 0) + 8192;
    p.disk().corrupt(place + 100, 1);
    CHECK(p.check_it(false).clean());
    const auto report = p.check_it();
    CHECK(has(report, "/dir/other at 8192",
              "the data does not match its checksum (devid 1, offset " + std::to_string(place) +
                  " of mem:a)"));
    CHECK(report.finding_count == 1);
  }
  SECTION("of several blocks") {
    const Extent extent = p.extent(p.keys_of("/dir/other", ItemType::extent).front());
    p.disk().corrupt(p.place(extent.logical, 0) + 4096, 8192);
    const auto report = p.check_it();
    CHECK(has(report, "/dir/other at 4096", "the data of 2 blocks does not match its checksums"));
    CHECK(report.finding_count == 1);
  }
  SECTION("unreadable blocks") {
    const Extent extent = p.extent(p.keys_of("/dir/other", ItemType::extent).front());
    const uint64_t place = p.place(extent.logical, 0) + 4096;
    p.devices.set_hook([place](const alloc::IoRequest& request) -> Result<void> {
      const bool hit = request.op == alloc::IoOp::read && request.offset <= place &&
                       place < request.offset + request.length;
      return hit ? Result<void>(Errc::io_error) : ok();
    });
    const auto report = p.check_it();
    CHECK(has(report, "/dir/other at 4096", "the data cannot be read"));
    CHECK(report.finding_count == 1);
  }
  SECTION("of one copy of every node") {
    for (unsigned copy : {0u, 1u}) {
      DamagedVolume q;
      const auto nodes = q.read([&](alloc::Volume& volume, TreeReader& reader, const auto& roots) {
        std::vector<uint64_t> places;
        NodesSeen seen;
        TreeReader::Walk walk;
        walk.node = [&](const NodeReading& reading) {
          places.push_back(
              place_of(*volume.mapper().current(), reading.expected.pointer.address, copy)->offset);
        };
        for (TreeId tree : {TreeId::fs, TreeId::extent}) {
          reader.walk(tree, roots[static_cast<size_t>(tree) - 1], seen, walk);
        }
        return places;
      });
      for (uint64_t place : nodes) q.disk().corrupt(place + 5000, 1);
      const auto report = q.check_it();
      CHECK(report.finding_count == nodes.size());
      CHECK(report.nodes == nodes.size());
      CHECK(report.inodes == healthy().inodes.size() + 1);
      CHECK(report.findings.front().what.find("copy " + std::to_string(copy) + " is bad") == 0);
    }
  }
  SECTION("of all copies of a leaf: its consequences are not reported") {
    for (TreeId tree : {TreeId::fs, TreeId::extent}) {
      DamagedVolume q;
      const LogicalOffset leaf = q.read([&](alloc::Volume&, TreeReader& reader, const auto& roots) {
        std::vector<LogicalOffset> leaves;
        NodesSeen seen;
        TreeReader::Walk walk;
        walk.node = [&](const NodeReading& reading) {
          if (reading.expected.level == 0) leaves.push_back(reading.expected.pointer.address);
        };
        reader.walk(tree, roots[static_cast<size_t>(tree) - 1], seen, walk);
        REQUIRE(leaves.size() > 1);
        return leaves[(leaves.size() - 1) / 2];
      });
      for (unsigned copy : {0u, 1u}) q.disk().corrupt(q.place(leaf, copy) + 40, 2);
      const auto report = q.check_it();
      INFO(all_findings(report));
      CHECK(all_findings(report).find("no copy is good") != std::string::npos);
      CHECK(report.finding_count == 3);
    }
  }
  SECTION("of all copies of the root: still a report") {
    const auto root = p.read(
        [](alloc::Volume&, TreeReader&, const auto& roots) { return roots[0].node.address; });
    for (unsigned copy : {0u, 1u}) p.disk().corrupt(p.place(root, copy), 64);
    const auto report = p.check_it();
    CHECK(report.finding_count == 3);
    CHECK(report.inodes == 0);
  }
  SECTION("of superblock copies") {
    p.disk().discard(alloc::kSuperblockOffsets[1], alloc::kSuperblockMaxBytes);
    CHECK(has(p.check_it(), "superblock copy 1 of mem:a", ""));
    p.disk().corrupt(alloc::kSuperblockOffsets[0], 1);
    CHECK(!p.try_check());
  }
  SECTION("a torn superblock copy is what a power cut leaves: a note") {
    p.disk().corrupt(alloc::kSuperblockOffsets[1] + 1000, 512);
    const auto report = p.check_it();
    CHECK(report.clean());
    CHECK(report.notes.size() == 1);
  }
  SECTION("of the chunk table: the error names it") {
    for (uint64_t slot : alloc::kChunkTableOffsets) p.disk().corrupt(slot + 100, 1);
    const auto report = p.try_check();
    REQUIRE(!report);
    CHECK(report.error().message().find("chunk table") != std::string::npos);
  }
}

TEST_CASE("a node with two parents is found") {
  DamagedVolume p;
  // Both trees share a root: the pointers are right, but for the tree.
  const auto super =
      must(alloc::read_superblock_copy(p.devices, *must(p.devices.open("mem:a", {})), 0));
  auto payload = must(decode_fs_payload(super.fs_payload));
  payload.roots[1] = payload.roots[0];
  auto changed = super;
  changed.fs_payload = encode(payload);
  {
    auto device = must(p.devices.open("mem:a", {}));
    must(alloc::write_superblock(p.devices, *device, changed));
  }
  const auto report = p.check_it();
  CHECK(has(report, "extent tree", "has two parents"));
}
