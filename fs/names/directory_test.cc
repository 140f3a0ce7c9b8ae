// SPDX-License-Identifier: MIT
// Tests of names: readdir while entries change, equal hashes, limits, rules of rename, set-gid.
#include "fs/names/directory.h"

#include <dirent.h>
#include <sys/stat.h>

#include <cstring>
#include <map>
#include <random>
#include <set>

#include "fs/names/dir_entry.h"
#include "fs/names/names_test_util.h"

namespace moltfs::fs {
namespace {

using test::code_of;
using test::must;
using test::TestFilesystem;

constexpr Caller kRoot{};

std::string numbered(const char* prefix, unsigned n) {
  return prefix + std::to_string(n);
}

TEST_CASE("an entry that stays is seen exactly once while others come and go") {
  TestFilesystem fs;
  const InodeNumber directory = test::make(fs, kRootInode, "big", S_IFDIR | 0755).ino;
  constexpr unsigned kStaying = 100'000, kChanging = 3'000;
  const InodeNumber file = test::make(fs, directory, "stay0", S_IFREG | 0644).ino;
  for (unsigned i = 1; i < kStaying; ++i) {
    test::make(fs, directory, numbered("stay", i), S_IFREG | 0644);
  }
  std::mt19937 random(1);
  std::set<unsigned> there;
  const auto change = [&] {
    const unsigned n = random() % kChanging;
    const std::string name = numbered("change", n);
    if (there.erase(n)) {
      must(fs->unlink(directory, name));
    } else {
      test::make(fs, directory, name, S_IFREG | 0644);
      there.insert(n);
    }
  };
  for (unsigned i = 0; i < kChanging; ++i) change();

  std::map<std::string, unsigned> seen;
  uint64_t cookie = 0, last = 0;
  for (bool more = true; more;) {
    more = false;
    unsigned taken = 0;
    const unsigned wanted = 1 + random() % 700;
    must(fs->read_directory(directory, cookie, random() % 2 != 0,
                            [&](const DirEntry& entry, const Attributes* attributes) {
                              CHECK(entry.cookie > last);
                              if (taken == wanted) {
                                more = true;
                                return false;
                              }
                              if (attributes) fs->forget(entry.ino, 1);
                              ++taken;
                              ++seen[entry.name];
                              cookie = last = entry.cookie;
                              return true;
                            }));
    for (unsigned i = 0; i < 20; ++i) change();
  }
  CHECK(seen.size() >= kStaying + 2);
  unsigned staying = 0, twice = 0;
  for (const auto& [name, count] : seen) {
    staying += name.starts_with("stay") ? 1 : 0;
    twice += count != 1 ? 1 : 0;
  }
  CHECK(staying == kStaying);
  CHECK(twice == 0);
  CHECK(seen.contains("."));
  CHECK(seen.contains(".."));
  CHECK(must(fs->lookup(directory, "stay0")).ino == file);
}

TEST_CASE("cookies fit an off_t of 32 bits") {
  TestFilesystem fs;
  for (unsigned i = 0; i < 500; ++i) {
    test::make(fs, kRootInode, numbered("n", i), S_IFREG | 0644);
  }
  uint64_t last = 0;
  must(fs->read_directory(kRootInode, 0, false, [&](const DirEntry& entry, const Attributes*) {
    CHECK(entry.cookie > last);
    last = entry.cookie;
    return true;
  }));
  CHECK(last > uint64_t{1} << 28);  // hashes are spread over all of it
  CHECK(last < uint64_t{1} << 31);
}

TEST_CASE("names with equal hashes") {
  Filesystem::Options options;
  options.name_hash_mask = 0;
  TestFilesystem fs(64 << 20, options);
  std::map<std::string, InodeNumber> model;
  for (unsigned i = 0; i < kSlotsPerHash; ++i) {
    model[numbered("n", i)] = test::make(fs, kRootInode, numbered("n", i), S_IFREG | 0644).ino;
  }
  CHECK(code_of(fs->make(kRootInode, "more", S_IFREG | 0644, 0, kRoot)) == Errc::no_space);
  // A gap in the middle hides nothing behind it, and takes the next name.
  for (unsigned i : {0u, 17u, 100u, 255u}) {
    must(fs->unlink(kRootInode, numbered("n", i)));
    model.erase(numbered("n", i));
  }
  const auto compare = [&] {
    for (const auto& [name, ino] : model) {
      const Attributes found = must(fs->lookup(kRootInode, name));
      CHECK(found.ino == ino);
      fs->forget(ino, 1);
    }
    CHECK(test::list(fs, kRootInode).size() == model.size());
  };
  compare();
  CHECK(code_of(fs->lookup(kRootInode, "n17")) == Errc::not_found);
  model["more"] = test::make(fs, kRootInode, "more", S_IFREG | 0644).ino;
  must(fs->rename(kRootInode, "n200", kRootInode, "n3", RenameMode::replace, kRoot));
  model["n3"] = model["n200"];
  model.erase("n200");
  compare();
  fs.remount();
  compare();
}

TEST_CASE("cookies are positive and come after those of . and ..") {
  for (const char* name : {"a", "b", "something longer", "\xff\xfe"}) {
    for (uint64_t seed : {0ull, 1ull, 77ull}) {
      const uint64_t offset = entry_offset(name, seed);
      CHECK(offset >= kFirstEntryOffset);
      CHECK(offset % kSlotsPerHash == 0);
      CHECK(static_cast<int64_t>(offset + kSlotsPerHash - 1) > 0);
    }
    CHECK(entry_offset(name, 5, 0) == kFirstEntryOffset);
  }
}

TEST_CASE("invalid names are refused") {
  TestFilesystem fs;
  const auto make = [&](std::string_view name) {
    return code_of(fs->make(kRootInode, name, S_IFREG | 0644, 0, kRoot));
  };
  CHECK(make("") == Errc::invalid_argument);
  CHECK(make(".") == Errc::invalid_argument);
  CHECK(make("..") == Errc::invalid_argument);
  CHECK(make("a/b") == Errc::invalid_argument);
  CHECK(make(std::string_view("a\0b", 3)) == Errc::invalid_argument);
  CHECK(make(std::string(256, 'x')) == Errc::name_too_long);
  CHECK_FALSE(make(std::string(255, 'x')));
  CHECK(make(std::string(255, 'x')) == Errc::already_exists);
  CHECK(code_of(fs->lookup(kRootInode, "none")) == Errc::not_found);
  const InodeNumber file = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  CHECK(code_of(fs->lookup(file, "x")) == Errc::not_a_directory);
  CHECK(code_of(fs->make(file, "x", S_IFREG, 0, kRoot)) == Errc::not_a_directory);
  CHECK(code_of(fs->read_directory(file, 0, false, [](const auto&, auto*) { return true; })) ==
        Errc::not_a_directory);
}

TEST_CASE("kinds of inodes") {
  TestFilesystem fs;
  const Caller caller{7, 8, 022};
  const struct {
    const char* name;
    uint32_t type;
    uint8_t entry_type;
  } kinds[] = {{"file", S_IFREG, DT_REG}, {"fifo", S_IFIFO, DT_FIFO}, {"sock", S_IFSOCK, DT_SOCK},
               {"chr", S_IFCHR, DT_CHR},  {"blk", S_IFBLK, DT_BLK},   {"dir", S_IFDIR, DT_DIR}};
  const uint64_t device = uint64_t{8} << 32 | 17;
  for (const auto& kind : kinds) {
    must(fs->make(kRootInode, kind.name, kind.type | 0666, device, caller));
  }
  fs.remount();
  std::map<std::string, uint8_t> types;
  for (const DirEntry& entry : test::list(fs, kRootInode)) types[entry.name] = entry.type;
  for (const auto& kind : kinds) {
    const Attributes found = must(fs->lookup(kRootInode, kind.name));
    CHECK(found.mode == (kind.type | 0644));
    CHECK(found.uid == 7);
    CHECK(found.gid == 8);
    CHECK(found.links == (S_ISDIR(kind.type) ? 2u : 1u));
    CHECK(found.device == (S_ISCHR(kind.type) || S_ISBLK(kind.type) ? device : 0));
    CHECK(types[kind.name] == kind.entry_type);
    CHECK(fs->path_of(found.ino) == "/" + std::string(kind.name));
  }
  CHECK(code_of(fs->make(kRootInode, "x", 0130000, 0, kRoot)) == Errc::invalid_argument);
}

TEST_CASE("symlinks of all lengths") {
  TestFilesystem fs;
  for (size_t length : {1, 100, 2048, 3899, 3900, 3901, 4095}) {
    const std::string name = "l" + std::to_string(length);
    const std::string target(length, 't');
    const InodeNumber ino = must(fs->symlink(kRootInode, name, target, kRoot)).ino;
    CHECK(must(fs->read_symlink(ino)) == target);
    fs.remount();
    CHECK(must(fs->read_symlink(ino)) == target);
    CHECK(must(fs->attributes(ino)).size == length);
    must(fs->unlink(kRootInode, name));
  }
  fs.drain();
  CHECK(fs.count_items(ItemType::inline_data) == 0);
  CHECK(fs.inode_count() == 1);
  CHECK(code_of(fs->symlink(kRootInode, "x", std::string(4096, 't'), kRoot)) ==
        Errc::name_too_long);
  CHECK(code_of(fs->read_symlink(kRootInode)) == Errc::invalid_argument);
}

TEST_CASE("files in set-gid directories get their group") {
  TestFilesystem fs;
  const InodeNumber top = test::make(fs, kRootInode, "top", S_IFDIR | 02775, {1, 50}).ino;
  const Attributes file = test::make(fs, top, "file", S_IFREG | 0644, {2, 60});
  CHECK(file.gid == 50);
  CHECK(file.mode == (S_IFREG | 0644u));
  const Attributes below = test::make(fs, top, "below", S_IFDIR | 0755, {2, 60});
  CHECK(below.gid == 50);
  CHECK(below.mode == (S_IFDIR | 02755u));
}

TEST_CASE("link limits") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  const InodeNumber directory = test::make(fs, kRootInode, "d", S_IFDIR | 0755).ino;
  for (unsigned i = 1; i < kMaxLinks; ++i) {
    must(fs->link(ino, directory, numbered("l", i)));
  }
  fs->forget(ino, kMaxLinks - 1);
  CHECK(must(fs->attributes(ino)).links == kMaxLinks);
  CHECK(code_of(fs->link(ino, directory, "more")) == Errc::too_many_links);
  must(fs->unlink(directory, "l1"));
  must(fs->link(ino, directory, "more"));
  CHECK(code_of(fs->link(directory, kRootInode, "d2")) == Errc::not_permitted);
}

TEST_CASE("impossible renames are refused") {
  TestFilesystem fs;
  const InodeNumber a = test::make(fs, kRootInode, "a", S_IFDIR | 0755).ino;
  const InodeNumber b = test::make(fs, a, "b", S_IFDIR | 0755).ino;
  test::make(fs, b, "file", S_IFREG | 0644);
  test::make(fs, kRootInode, "file", S_IFREG | 0644);
  const auto rename = [&](InodeNumber from, const char* name, InodeNumber to, const char* new_name,
                          RenameMode mode = RenameMode::replace) {
    return code_of(fs->rename(from, name, to, new_name, mode, kRoot));
  };
  CHECK(rename(kRootInode, "a", b, "x") == Errc::invalid_argument);
  CHECK(rename(kRootInode, "a", a, "x") == Errc::invalid_argument);
  CHECK(rename(kRootInode, "a", b, "file", RenameMode::exchange) == Errc::invalid_argument);
  CHECK(rename(b, "file", kRootInode, "a", RenameMode::exchange) == Errc::invalid_argument);
  CHECK(rename(a, "b", kRootInode, "a") == Errc::directory_not_empty);
  CHECK(rename(kRootInode, "file", kRootInode, "a") == Errc::is_a_directory);
  CHECK(rename(kRootInode, "a", kRootInode, "file") == Errc::not_a_directory);
  CHECK(rename(kRootInode, "none", kRootInode, "file") == Errc::not_found);
  CHECK(rename(kRootInode, "file", kRootInode, "none", RenameMode::exchange) == Errc::not_found);
  CHECK(rename(kRootInode, "file", b, "file", RenameMode::no_replace) == Errc::already_exists);
  CHECK(rename(kRootInode, "file", b, std::string(256, 'x').c_str()) == Errc::name_too_long);
  CHECK(fs->path_of(b) == "/a/b");
}

TEST_CASE("rename with WHITEOUT leaves a whiteout at the old name") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  must(fs->rename(kRootInode, "file", kRootInode, "moved", RenameMode::whiteout, {3, 4}));
  CHECK(must(fs->lookup(kRootInode, "moved")).ino == ino);
  const Attributes whiteout = must(fs->lookup(kRootInode, "file"));
  CHECK((whiteout.mode & S_IFMT) == S_IFCHR);
  CHECK(whiteout.device == 0);
  CHECK(whiteout.uid == 3);
}

TEST_CASE("a removed directory takes no entries") {
  TestFilesystem fs;
  const InodeNumber ino = must(fs->make(kRootInode, "d", S_IFDIR | 0755, 0, kRoot)).ino;
  must(fs->remove_directory(kRootInode, "d"));
  CHECK(code_of(fs->make(ino, "x", S_IFREG | 0644, 0, kRoot)) == Errc::not_found);
  CHECK(must(fs->attributes(ino)).links == 0);
  CHECK(must(fs->attributes(kRootInode)).links == 2);
  fs->forget(ino, 1);
  fs.drain();
  CHECK(code_of(fs->attributes(ino)) == Errc::not_found);
}

TEST_CASE("times change as POSIX says") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  SetAttributes old;
  old.atime = old.mtime = old.ctime = Time{1000, 5};
  const auto age = [&] {
    must(fs->set_attributes(ino, old));
    must(fs->set_attributes(kRootInode, old));
    CHECK(must(fs->attributes(ino)).ctime == Time{1000, 5});
  };
  const auto changed = [&](InodeNumber which) {
    const Attributes now = must(fs->attributes(which));
    return std::pair(now.mtime != Time{1000, 5}, now.ctime != Time{1000, 5});
  };
  using Changed = std::pair<bool, bool>;
  age();
  must(fs->link(ino, kRootInode, "two"));
  CHECK(changed(ino) == Changed{false, true});
  CHECK(changed(kRootInode) == Changed{true, true});
  age();
  must(fs->unlink(kRootInode, "two"));
  CHECK(changed(ino) == Changed{false, true});
  CHECK(changed(kRootInode) == Changed{true, true});
  age();
  must(fs->rename(kRootInode, "file", kRootInode, "other", RenameMode::replace, kRoot));
  CHECK(changed(ino) == Changed{false, true});
  CHECK(changed(kRootInode) == Changed{true, true});
  age();
  SetAttributes chmod;
  chmod.mode = 0600;
  must(fs->set_attributes(ino, chmod));
  CHECK(changed(ino) == Changed{false, true});
  SetAttributes touch;
  touch.mtime_now = true;
  must(fs->set_attributes(ino, touch));
  CHECK(changed(ino) == Changed{true, true});
  SetAttributes wrong;
  wrong.mtime = Time{0, 1'000'000'000};
  CHECK(code_of(fs->set_attributes(ino, wrong)) == Errc::invalid_argument);
}

TEST_CASE("damaged entries give errors") {
  const Key key = entry_key(InodeNumber{300}, 0x1000);
  const auto item = [](uint64_t ino, uint8_t type, uint8_t length, std::string_view name) {
    DirEntryOnDisk disk;
    disk.inode = ino;
    disk.type = type;
    disk.name_length = length;
    std::vector<std::byte> bytes(sizeof(disk) + name.size());
    std::memcpy(bytes.data(), &disk, sizeof(disk));
    std::memcpy(bytes.data() + sizeof(disk), name.data(), name.size());
    return bytes;
  };
  CHECK(must(decode_entry(key, item(300, DT_REG, 1, "a"))).name == "a");
  CHECK(code_of(decode_entry(key, {})) == Errc::bad_item);
  CHECK(code_of(decode_entry(key, item(300, DT_REG, 2, "a"))) == Errc::bad_item);
  CHECK(code_of(decode_entry(key, item(300, 3, 1, "a"))) == Errc::bad_item);
  CHECK(code_of(decode_entry(key, item(2, DT_REG, 1, "a"))) == Errc::bad_item);
  CHECK(code_of(decode_entry(key, item(300, DT_REG, 1, "/"))) == Errc::bad_item);
  CHECK(code_of(decode_entry(key, item(300, DT_REG, 2, ".."))) == Errc::bad_item);
  CHECK(code_of(decode_entry(entry_key(InodeNumber{300}, 7), item(300, DT_REG, 1, "a"))) ==
        Errc::bad_item);
}

}  // namespace
}  // namespace moltfs::fs
