// SPDX-License-Identifier: MIT
// Structures that are valid alone and contradict each other. Each volume is listed, read, written,
// emptied and committed; the daemon must live, write only where it may, and end.
#include <sys/stat.h>

#include <set>

#include "alloc/base/log.h"
#include "alloc/disk/log_batch.h"
#include "fs/check/dump.h"
#include "fs/mount/hostile_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

/// ls -lR, reading, writing and rm -rf of a volume that need not be sound.
class Tour {
 public:
  explicit Tour(Filesystem& fs) : fs_(fs) {}

  void list_and_read(InodeNumber directory) {
    for (const DirEntry& entry : entries_of(directory)) {
      const auto found = fs_.lookup(directory, entry.name);
      note(found);
      if (!found) continue;
      const Attributes& a = found.value();
      const auto names = fs_.list_xattrs(a.ino);
      note(names);
      if (names) {
        for (const std::string& name : names.value()) note(fs_.get_xattr(a.ino, name));
      }
      if (S_ISLNK(a.mode)) note(fs_.read_symlink(a.ino));
      if (S_ISREG(a.mode)) read_and_write(a);
      // A directory that is entered twice is a loop, which the kernel would refuse, too.
      if (S_ISDIR(a.mode) && visited_.insert(a.ino.value).second) list_and_read(a.ino);
      fs_.forget(a.ino, 1);
    }
  }

  void remove_all(InodeNumber directory, unsigned depth = 0) {
    if (depth > 8) return;
    for (const DirEntry& entry : entries_of(directory)) {
      const auto found = fs_.lookup(directory, entry.name);
      if (found && S_ISDIR(found.value().mode)) {
        remove_all(found.value().ino, depth + 1);
        note(fs_.remove_directory(directory, entry.name));
      } else {
        note(fs_.unlink(directory, entry.name));
      }
      if (found) fs_.forget(found.value().ino, 1);
    }
  }

  /// Whether an operation reported damage.
  bool met_damage() const { return met_damage_; }

 private:
  std::vector<DirEntry> entries_of(InodeNumber directory) {
    std::vector<DirEntry> entries;
    note(fs_.read_directory(directory, 0, false, [&](const DirEntry& entry, const Attributes*) {
      if (entry.name != "." && entry.name != "..") entries.push_back(entry);
      return entries.size() < 1000;
    }));
    return entries;
  }

  void read_and_write(const Attributes& a) {
    AlignedBuffer buffer(64 * 1024);
    for (const uint64_t at : {uint64_t{0}, a.size / 2, a.size}) {
      note(fs_.read(a.ino, at, buffer.span()));
    }
    note(fs_.write(a.ino, a.size / 2, buffer.span().first(5000), {}));
    note(fs_.write(a.ino, 4'000'000, buffer.span().first(kBlockSize), {}));
    SetAttributes set;
    set.size = a.size / 3;
    if (a.ino.value % 3 == 0) note(fs_.set_attributes(a.ino, set));
    (void)fs_.path_of(a.ino);
  }

  template <class T>
  void note(const Result<T>& result) {
    if (result) return;
    const Errc code = result.error().code;
    met_damage_ |= code == Errc::bad_item || code == Errc::bad_node || code == Errc::io_error ||
                   code == Errc::node_missing || code == Errc::checksum_mismatch;
  }

  Filesystem& fs_;
  std::set<uint64_t> visited_;
  bool met_damage_ = false;
};

void dump_all(HostileVolume& p) {
  DumpRequest request;
  request.paths = {"mem:a"};
  request.print = [](std::string_view) {};
  (void)dump_superblocks(p.runtime, p.devices, request);
  (void)dump_chunks(p.runtime, p.devices, request, true);
  for (const TreeId tree : {TreeId::fs, TreeId::extent}) {
    (void)dump_tree(p.runtime, p.devices, request, tree, std::nullopt);
  }
  (void)dump_inode(p.runtime, p.devices, request, "/dir/sub/big");
  (void)dump_replace(p.runtime, p.devices, request);
  (void)dump_log(p.runtime, p.devices, request);
}

/// Places where a mount may write on any volume; stripes of chunks come after them.
bool may_be_written(uint64_t offset, uint64_t length) {
  return offset >= alloc::kSuperblockOffsets[0] && offset + length <= 64 * kMiB;
}

/// What every volume survives. What `check` finds nothing in also has no damage afterwards.
void survive(HostileVolume& p) {
  set_log_sink([](LogLevel, const std::string&) {});
  const auto before = p.try_check();
  const bool is_clean = before && before.value().clean();
  dump_all(p);
  bool wrote_elsewhere = false;
  p.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    const bool writes = request.op == alloc::IoOp::write || request.op == alloc::IoOp::discard;
    if (writes && !may_be_written(request.offset, request.length)) wrote_elsewhere = true;
    return ok();
  });
  bool met_damage = false;
  for (int round = 0; round < 2; ++round) {
    auto mount = p.try_mount();
    if (!mount) {
      CHECK_FALSE(is_clean);
      break;
    }
    Filesystem& fs = mount.value()->filesystem();
    Tour tour(fs);
    tour.list_and_read(kRootInode);
    const auto made = fs.make(kRootInode, "made " + std::to_string(round), S_IFREG | 0644, 0, {});
    CHECK((made || !is_clean));
    (void)fs.commit();
    if (round == 0) tour.remove_all(kRootInode);
    (void)fs.statistics();
    (void)fs.commit();
    (void)mount.value()->close();
    met_damage |= tour.met_damage();
  }
  p.devices.set_hook({});
  CHECK_FALSE(wrote_elsewhere);
  const auto after = p.try_check();
  dump_all(p);
  set_log_sink({});
  if (!is_clean) return;
  CHECK_FALSE(met_damage);
  CHECK((after && after.value().clean()));
}

Key first_extent(HostileVolume& p, const std::string& path) {
  return p.keys_of(path, ItemType::extent).front();
}

void point_entry_at(HostileVolume& p, const std::string& directory, const std::string& name,
                    InodeNumber ino, uint8_t type) {
  const Key key = p.key_of_entry(directory, name);
  auto value = p.item(TreeId::fs, key);
  std::memcpy(value.data(), &ino.value, sizeof ino.value);
  value[offsetof(DirEntryOnDisk, type)] = std::byte{type};
  p.put(TreeId::fs, key, value);
}

/// Moves the record of an extent, and the extent itself, to another address.
void move_extent(HostileVolume& p, const Key& key, LogicalOffset to) {
  const Extent extent = p.extent(key);
  auto item = p.item(TreeId::fs, key);
  const auto record = p.item(TreeId::extent, record_key(extent.logical));
  std::memcpy(item.data(), &to.value, sizeof to.value);
  p.edit([&](Txn& txn, const Tree& fs, const Tree& tree) -> Result<void> {
    TRY(fs.prepare(txn, key, Tree::Intent::put));
    TRY(tree.prepare(txn, record_key(extent.logical), Tree::Intent::erase));
    TRY(tree.prepare(txn, record_key(to), Tree::Intent::put));
    fs.put(txn, key, item);
    tree.erase(txn, record_key(extent.logical));
    tree.put(txn, record_key(to), record);
    return ok();
  });
}

LogicalOffset root_address(HostileVolume& p, TreeId tree) {
  return p.read([&](alloc::Volume&, TreeReader&, const auto& roots) {
    return roots[static_cast<size_t>(tree) - 1].node.address;
  });
}

}  // namespace

TEST_CASE("two files with one extent are survived") {
  HostileVolume p;
  const Key own = first_extent(p, "/dir/other");
  const auto value = p.item(TreeId::fs, first_extent(p, "/dir/sub/big"));
  p.put(TreeId::fs, own, value);
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("extents that overlap within a file or in the address space are survived") {
  HostileVolume p;
  const auto keys = p.keys_of("/dir/sub/big", ItemType::extent);
  REQUIRE(keys.size() > 4);
  SECTION("in the file") {
    auto value = p.item(TreeId::fs, keys[2]);
    p.put(TreeId::fs, extent_key(ino_of("/dir/sub/big"), keys[2].offset + kBlockSize), value);
  }
  SECTION("records") {
    const Extent extent = p.extent(first_extent(p, "/dir/other"));
    const auto record = p.item(TreeId::extent, record_key(extent.logical));
    p.put(TreeId::extent, record_key(extent.logical + kBlockSize), record);
  }
  SECTION("a record of a whole chunk") {
    PreallocatedPair pair({}, kMaxExtentBytes, ino_of("/dir/other"), 1 << 30);
    const Extent extent = p.extent(first_extent(p, "/dir/other"));
    p.put(TreeId::extent, record_key(extent.logical - kBlockSize), object_bytes(pair.record));
  }
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("an extent where metadata is, or nothing, is survived") {
  HostileVolume p;
  const Key key = first_extent(p, "/dir/other");
  const bool is_removed_only = GENERATE(false, true);
  if (is_removed_only) p.put(TreeId::fs, orphan_key(ino_of("/dir/other")), bytes_of("\1"));
  SECTION("the root of the fs tree") {
    move_extent(p, key, root_address(p, TreeId::fs));
  }
  SECTION("the root of the extent tree") {
    move_extent(p, key, root_address(p, TreeId::extent));
  }
  SECTION("beyond all chunks") {
    move_extent(p, key, LogicalOffset(superblock_of(p).next_logical.value));
  }
  SECTION("at the end of the address space") {
    move_extent(p, key, LogicalOffset(alloc::kMaxLogical - kBlockSize));
  }
  SECTION("over the end of its chunk") {
    const LogicalOffset at = p.extent(key).logical;
    const LogicalOffset end = p.read([&](alloc::Volume& volume, TreeReader&, const auto&) {
      const auto* chunk = alloc::find_chunk(volume.mapper().current()->chunks(), at);
      return chunk->start + chunk->length;
    });
    move_extent(p, key, end - kBlockSize);
  }
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("an extent without a record, and a record without an extent, are survived") {
  HostileVolume p;
  const Key key = first_extent(p, "/dir/other");
  SECTION("no record: its space is free") {
    p.erase(TreeId::extent, record_key(p.extent(key).logical));
  }
  SECTION("no extent") {
    p.erase(TreeId::fs, key);
  }
  SECTION("a record of another file") {
    auto record = p.item(TreeId::extent, record_key(p.extent(key).logical));
    const uint64_t other = ino_of("/dir/small").value;
    std::memcpy(record.data() + offsetof(ExtentRecordOnDisk, inode), &other, sizeof other);
    p.put(TreeId::extent, record_key(p.extent(key).logical), record);
  }
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("directories in a loop, and names of what is not theirs, are survived") {
  HostileVolume p;
  SECTION("an entry of the directory above") {
    point_entry_at(p, "/dir/sub", "big", ino_of("/dir"), 4);
  }
  SECTION("an entry of the directory itself") {
    point_entry_at(p, "/dir", "sub", ino_of("/dir"), 4);
  }
  SECTION("one directory under two names") {
    point_entry_at(p, "/dir", "small", ino_of("/many"), 4);
  }
  SECTION("an entry of another type") {
    point_entry_at(p, "/dir", "sub", ino_of("/dir/other"), 4);
  }
  SECTION("an entry of nothing") {
    point_entry_at(p, "/dir", "small", InodeNumber(p.next_inode() + 5), 8);
  }
  SECTION("an entry of the number that comes next") {
    point_entry_at(p, "/dir", "small", InodeNumber(p.next_inode()), 8);
  }
  SECTION("the same name twice") {
    const Key key = p.key_of_entry("/dir", "small");
    p.put(TreeId::fs, entry_key(ino_of("/dir"), key.offset + 1), p.item(TreeId::fs, key));
  }
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("counts that lie are survived") {
  HostileVolume p;
  const uint32_t links = GENERATE(0u, 1u, kMaxLinks, 0x7fffffffu);
  SECTION("links of a file") {
    p.change_inode("/dir/small", [&](InodeOnDisk& disk) { disk.links = links; });
  }
  SECTION("links of a directory") {
    p.change_inode("/dir", [&](InodeOnDisk& disk) { disk.links = links; });
  }
  SECTION("links of the root") {
    p.change_inode("/", [&](InodeOnDisk& disk) { disk.links = links; });
  }
  SECTION("the size of a directory") {
    p.change_inode("/dir", [&](InodeOnDisk& disk) { disk.size = links; });
  }
  SECTION("allocated bytes") {
    p.change_inode("/dir/sub/big", [&](InodeOnDisk& disk) {
      disk.allocated_bytes = links == 1 ? (uint64_t{1} << 63) - kBlockSize : 0;
    });
  }
  SECTION("the number of inodes") {
    p.change_counters([&](FsCounters& counters) {
      counters.inode_count = links > 1 ? kInodeNumbersEnd - 1 : links;
    });
  }
  CHECK_FALSE(p.check_it(false).clean());
  survive(p);
}

TEST_CASE("usage records that lie are survived") {
  HostileVolume p;
  const Key any = key_of(ItemType::extent_record, UINT64_MAX, 0);
  const auto keys = p.keys(TreeId::extent, any, Key::max());
  REQUIRE_FALSE(keys.empty());
  const uint64_t used = GENERATE(uint64_t{0}, uint64_t{4096}, uint64_t{1} << 40, UINT64_MAX);
  SECTION("of a chunk") {
    p.put(TreeId::extent, keys.front(), object_bytes(used));
  }
  SECTION("of no chunk") {
    Key key = keys.front();
    key.offset = uint64_t{1} << 61;
    p.put(TreeId::extent, key, object_bytes(used));
  }
  survive(p);
}

TEST_CASE("generations near the end are survived") {
  HostileVolume p;
  const uint64_t last = GENERATE(UINT64_MAX, UINT64_MAX - 1, alloc::kMaxGeneration.value);
  SECTION("of an inode") {
    p.change_inode("/dir/small", [&](InodeOnDisk& disk) { disk.generation = last; });
  }
  SECTION("of a record") {
    const Extent extent = p.extent(first_extent(p, "/dir/other"));
    auto record = p.item(TreeId::extent, record_key(extent.logical));
    std::memcpy(record.data(), &last, sizeof last);
    p.put(TreeId::extent, record_key(extent.logical), record);
  }
  SECTION("of the root of a tree") {
    p.change_superblock([&](alloc::Superblock& super) {
      auto payload = must(decode_fs_payload(super.fs_payload));
      payload.roots[0].node.birth = Generation(last);
      super.fs_payload = encode(payload);
    });
  }
  SECTION("of the superblock") {
    p.change_superblock([&](alloc::Superblock& super) {
      super.generation = alloc::kMaxGeneration - (UINT64_MAX - last) % 1000;
    });
  }
  SECTION("of a replace") {
    auto record = suspended_record(superblock_of(p));
    record.facts.start_generation = record.walk_before = Generation(last);
    p.set_record(record);
  }
  survive(p);
}

TEST_CASE("a replace whose target is its source is survived") {
  HostileVolume p;
  auto record = suspended_record(superblock_of(p));
  record.facts.target = record.facts.source;
  record.facts.target.path = "mem:a";
  record.facts.state = GENERATE(replace::State::suspended, replace::State::finished,
                                replace::State::cancelled, replace::State::failed);
  p.set_record(record);
  const auto before = p.disk().clone();
  {
    auto mount = p.try_mount();
    REQUIRE(mount);
    (void)mount.value()->replace().resume();
    (void)mount.value()->replace().cancel();
    must(mount.value()->close());
  }
  CHECK(p.check_it().clean());
  survive(p);
}

TEST_CASE("parts of an attribute that changed places are survived") {
  HostileVolume p;
  const auto keys = p.keys_of("/dir/sub/big", ItemType::xattr);
  std::vector<Key> parts;
  for (const Key& key : keys) {
    if (xattr_part_of(key) > 0) parts.push_back(key);
  }
  REQUIRE(parts.size() > 2);
  const auto first = p.item(TreeId::fs, parts.front()), last = p.item(TreeId::fs, parts.back());
  SECTION("exchanged") {
    p.put(TreeId::fs, parts.front(), last);
    p.put(TreeId::fs, parts.back(), first);
  }
  SECTION("one is missing") {
    p.erase(TreeId::fs, parts[1]);
  }
  SECTION("the first one is missing") {
    Key head = parts.front();
    head.offset -= xattr_part_of(head);
    p.erase(TreeId::fs, head);
  }
  SECTION("one too many") {
    Key more = parts.back();
    ++more.offset;
    p.put(TreeId::fs, more, first);
  }
  CHECK_FALSE(p.check_it().clean());
  survive(p);
}

TEST_CASE("marks of orphans that are in use are survived") {
  HostileVolume p;
  const char* const mark = GENERATE("\1", "\2");
  const char* const path =
      GENERATE("/", "/dir", "/dir/sub", "/dir/small", "/dir/long", "/dir/pipe");
  p.put(TreeId::fs, orphan_key(ino_of(path)), bytes_of(mark));
  survive(p);
}

TEST_CASE("content of a kind that the inode does not have is survived") {
  HostileVolume p;
  const auto extent = p.item(TreeId::fs, first_extent(p, "/dir/other"));
  SECTION("extents of a directory") {
    p.put(TreeId::fs, extent_key(ino_of("/dir"), 0), extent);
  }
  SECTION("entries of a file") {
    const Key key = p.key_of_entry("/dir", "small");
    p.put(TreeId::fs, entry_key(ino_of("/dir/other"), key.offset), p.item(TreeId::fs, key));
  }
  SECTION("extents of a file with inline data") {
    p.put(TreeId::fs, extent_key(ino_of("/dir/small"), 0), extent);
  }
  SECTION("a directory that says it is a file") {
    p.change_inode("/dir/sub", [](InodeOnDisk& disk) { disk.mode = S_IFREG | 0644; });
  }
  SECTION("a file that says it is a directory") {
    p.change_inode("/dir/other", [](InodeOnDisk& disk) {
      disk.mode = S_IFDIR | 0755;
      disk.parent = ino_of("/dir").value;
    });
  }
  SECTION("a file that says it is a symlink") {
    p.change_inode("/dir/other", [](InodeOnDisk& disk) { disk.mode = S_IFLNK | 0777; });
  }
  SECTION("a size beyond all extents") {
    p.change_inode("/dir/other", [](InodeOnDisk& disk) { disk.size = kMaxFileBytes; });
  }
  SECTION("a size before all extents") {
    p.change_inode("/dir/sub/big", [](InodeOnDisk& disk) { disk.size = 1; });
  }
  survive(p);
}
