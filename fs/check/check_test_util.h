// SPDX-License-Identifier: MIT
// For tests of check and dump: a filesystem with every kind of item on a device in memory, and
// functions that damage copies of it.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/codec.h"
#include "fs/check/check.h"
#include "fs/check/tree_reader.h"
#include "fs/content/extents.h"
#include "fs/inode/acl.h"
#include "fs/inode/xattrs.h"
#include "fs/names/dir_entry.h"
#include "fs/names/names_test_util.h"

namespace moltfs::fs::test {

/// A disk with a filesystem, and its inodes by path.
struct Sample {
  std::shared_ptr<moltfs::test::MemoryDisk> disk;
  std::map<std::string, InodeNumber> inodes;
};

/// Makes files and remembers their inodes by path.
class SampleMaker {
 public:
  explicit SampleMaker(Filesystem& fs) : fs_(fs) { sample_.inodes["/"] = kRootInode; }

  InodeNumber make(const std::string& directory, const std::string& name, uint32_t mode) {
    return note(directory, name, must(fs_.make(of(directory), name, mode, 0, {})));
  }
  InodeNumber file(const std::string& directory, const std::string& name, size_t size) {
    const InodeNumber ino = make(directory, name, 0100644);
    std::string text;
    while (text.size() < size) text += name + " says " + std::to_string(text.size()) + "\n";
    must(fs_.write(ino, 0, bytes_of(text.substr(0, size)), {}));
    return ino;
  }
  void symlink(const std::string& directory, const std::string& name, const std::string& target) {
    note(directory, name, must(fs_.symlink(of(directory), name, target, {})));
  }
  InodeNumber of(const std::string& path) { return sample_.inodes.at(path); }
  Sample& sample() { return sample_; }

 private:
  InodeNumber note(const std::string& directory, const std::string& name, const Attributes& made) {
    sample_.inodes[(directory == "/" ? "" : directory) + "/" + name] = made.ino;
    return made.ino;
  }
  Filesystem& fs_;
  Sample sample_;
};

inline void fill(SampleMaker& maker, Filesystem& fs) {
  maker.make("/", "dir", 0040755);
  maker.make("/dir", "sub", 0040750);
  maker.make("/", "many", 0040755);
  for (int i = 0; i < 700; ++i) maker.file("/many", "file" + std::to_string(i), 100 + 5 * i);
  maker.file("/dir", "small", 500);
  maker.file("/dir", "other", 20000);
  const InodeNumber big = maker.file("/dir/sub", "big", 3'000'000);
  for (uint64_t at = 4096; at < 400'000; at += 16384) {
    must(fs.write(big, at, bytes_of("overwritten"), {}));
  }
  must(fs.allocate(big, AllocateMode::allocate, 4'000'000, 100'000, true));
  must(fs.link(maker.of("/dir/small"), maker.of("/dir/sub"), "linked"));
  maker.symlink("/dir", "short", "sub/big");
  maker.symlink("/dir", "long", std::string(4090, 'x'));
  maker.make("/dir", "pipe", 0010644);
  must(fs.set_xattr(big, "user.long", std::vector<std::byte>(20'000), XattrMode::any));
  must(fs.set_xattr(big, "trusted.short", bytes_of("value"), XattrMode::any));
  Acl acl = must(Acl::parse([] {
    ByteWriter w;
    w.u32(2);
    const uint32_t entries[][3] = {
        {1, 6, ~0u}, {2, 7, 1000}, {4, 4, ~0u}, {16, 7, ~0u}, {32, 4, ~0u}};
    for (const auto& e : entries) {
      w.u16(static_cast<uint16_t>(e[0]));
      w.u16(static_cast<uint16_t>(e[1]));
      w.u32(e[2]);
    }
    return w.take();
  }()));
  must(fs.set_xattr(maker.of("/dir/other"), kAccessAclName, acl.encode(), XattrMode::any));
  must(fs.set_xattr(maker.of("/dir"), kDefaultAclName, acl.encode(), XattrMode::any));
  must(fs.make_unnamed(kRootInode, 0100600, {}));  // an orphan after a power cut
}

inline Sample make_sample() {
  TestFilesystem fs(64 * kMiB);
  SampleMaker maker(*fs);
  fill(maker, *fs);
  for (int i = 0; i < 2; ++i) must(fs.transactions->commit(true));
  maker.sample().disk = fs.disk().clone();
  return maker.sample();
}

inline const Sample& healthy() {
  static const Sample sample = make_sample();
  return sample;
}

inline InodeNumber ino_of(const std::string& path) {
  return healthy().inodes.at(path);
}

/// A copy of healthy(), to be damaged.
class DamagedVolume : public TestDisks {
 public:
  DamagedVolume() : TestDisks(std::map<std::string, uint64_t>{}) {
    devices.insert("mem:a", healthy().disk->clone());
  }

  using Edit = std::function<Result<void>(Txn&, const Tree& fs, const Tree& extent)>;
  void edit(const Edit& change) {
    auto volume = must(open({"mem:a"}));
    auto transactions = must(Transactions::open(*volume, {}));
    must(transactions->write(Budget{16}, [&](Txn& txn) -> Result<void> {
      return change(txn, transactions->fs_tree(), transactions->extent_tree());
    }));
    must(transactions->commit(true));
  }
  /// Inserts or overwrites an item.
  void put(TreeId tree, const Key& key, ConstBytes value) {
    edit([&](Txn& txn, const Tree& fs, const Tree& extent) -> Result<void> {
      const Tree& which = tree == TreeId::fs ? fs : extent;
      TRY(which.prepare(txn, key, Tree::Intent::put));
      which.put(txn, key, value);
      return ok();
    });
  }
  void erase(TreeId tree, const Key& key) {
    edit([&](Txn& txn, const Tree& fs, const Tree& extent) -> Result<void> {
      const Tree& which = tree == TreeId::fs ? fs : extent;
      TRY(which.prepare(txn, key, Tree::Intent::erase));
      which.erase(txn, key);
      return ok();
    });
  }
  void change_inode(const std::string& path, const std::function<void(InodeOnDisk&)>& change) {
    const auto value = item(TreeId::fs, inode_key(ino_of(path)));
    InodeOnDisk disk;
    std::memcpy(&disk, value.data(), sizeof(disk));
    change(disk);
    put(TreeId::fs, inode_key(ino_of(path)), std::as_bytes(std::span(&disk, 1)));
  }

  /// Calls `f(volume, reader, roots)` on the volume, opened for reading, and returns its result.
  template <class F>
  auto read(const F& f) {
    alloc::Volume::OpenOptions how;
    how.read_only = true;
    auto volume = must(open({"mem:a"}, how));
    const auto payload = must(decode_fs_payload(volume->superblock().fs_payload));
    TreeReader reader(*volume);
    return f(*volume, reader, payload.roots);
  }
  std::vector<std::byte> item(TreeId tree, const Key& key) {
    return read([&](alloc::Volume&, TreeReader& reader, const auto& roots) {
      auto found = must(reader.find(tree, roots[static_cast<size_t>(tree) - 1], key));
      REQUIRE(found);
      return *found;
    });
  }
  /// All keys of [first, last].
  std::vector<Key> keys(TreeId tree, const Key& first, const Key& last) {
    return read([&](alloc::Volume&, TreeReader& reader, const auto& roots) {
      std::vector<Key> found;
      must(reader.scan(tree, roots[static_cast<size_t>(tree) - 1], first, last,
                       [&](const Item& one) {
                         found.push_back(one.key);
                         return true;
                       }));
      return found;
    });
  }
  std::vector<Key> keys_of(const std::string& path, ItemType type) {
    const uint64_t ino = ino_of(path).value;
    return keys(TreeId::fs, key_of(type, ino), key_of(type, ino, UINT64_MAX));
  }
  /// The key of entry `name` in `directory`.
  Key key_of_entry(const std::string& directory, const std::string& name) {
    for (const Key& key : keys_of(directory, ItemType::dir_entry)) {
      if (must(decode_entry(key, item(TreeId::fs, key))).name == name) return key;
    }
    FAIL("no entry " << name);
    return {};
  }
  Extent extent(const Key& key) {
    const auto value = item(TreeId::fs, key);
    return must(decode_file_extent({key, value}));
  }
  uint64_t place(LogicalOffset at, unsigned copy) {
    return read([&](alloc::Volume& volume, TreeReader&, const auto&) {
      return place_of(*volume.mapper().current(), at, copy)->offset;
    });
  }

  Result<CheckReport> try_check(bool data = true) {
    CheckOptions options;
    options.data = data;
    return check(runtime, devices, {"mem:a"}, options);
  }
  CheckReport check_it(bool data = true) {
    CheckReport report = must(try_check(data));
    CHECK(report.findings.size() == std::min<uint64_t>(report.finding_count, 1000));
    return report;
  }
  moltfs::test::MemoryDisk& disk() { return devices.disk("mem:a"); }
};

inline std::string all_findings(const CheckReport& report) {
  std::string out;
  for (const Finding& f : report.findings) out += f.where + ": " + f.what + "\n";
  return out;
}

/// True if there is a finding at `where` whose sentence contains `what`.
inline bool has(const CheckReport& report, const std::string& where, const std::string& what) {
  const bool found = std::any_of(
      report.findings.begin(), report.findings.end(),
      [&](const Finding& f) { return f.where == where && f.what.find(what) != std::string::npos; });
  if (!found) UNSCOPED_INFO("found instead:\n" << all_findings(report));
  return found;
}

}  // namespace moltfs::fs::test
