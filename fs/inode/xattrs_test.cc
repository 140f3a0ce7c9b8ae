// SPDX-License-Identifier: MIT
// Tests of extended attributes: sizes, namespaces, modes, set-id rules that touch them.
#include "fs/inode/xattrs.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "fs/inode/acl.h"
#include "fs/names/names_test_util.h"

namespace moltfs::fs {
namespace {

using test::bytes_of;
using test::code_of;
using test::must;
using test::TestFilesystem;

std::vector<std::byte> pattern(size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  std::mt19937 random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

TEST_CASE("values of all sizes are read as they were set, also after a remount") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  const std::string name = "user.value";
  const size_t first = kMaxItemBytes - sizeof(XattrOnDisk) - name.size();
  const std::vector<size_t> sizes = {65536,     0,         1,
                                     100,       first - 1, first,
                                     first + 1, 65535,     4096,
                                     5000,      3900,      first + kMaxItemBytes,
                                     65536,     12,        first + kMaxItemBytes + 1,
                                     0};
  for (size_t size : sizes) {
    INFO(size);
    const auto value = pattern(size, static_cast<unsigned>(size));
    must(fs->set_xattr(ino, name, value, XattrMode::any));
    CHECK(must(fs->get_xattr(ino, name)) == value);
    const size_t parts = size <= first ? 1 : 1 + (size - first + kMaxItemBytes - 1) / kMaxItemBytes;
    CHECK(fs.count_items(ItemType::xattr, ino.value) == parts);
    fs.remount();
    CHECK(must(fs->get_xattr(ino, name)) == value);
  }
  CHECK(code_of(fs->set_xattr(ino, name, pattern(65537, 1), XattrMode::any)) ==
        Errc::value_too_large);
  must(fs->set_xattr(ino, name, pattern(65536, 9), XattrMode::any));
  must(fs->remove_xattr(ino, name));
  CHECK(fs.count_items(ItemType::xattr) == 0);
}

TEST_CASE("many attributes agree with a model") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "dir", S_IFDIR | 0755).ino;
  std::map<std::string, std::vector<std::byte>> model;
  std::mt19937 random(3);
  for (unsigned step = 0; step < 600; ++step) {
    const std::string name = "user.n" + std::to_string(random() % 60);
    if (random() % 4 == 0) {
      CHECK(code_of(fs->remove_xattr(ino, name)) ==
            (model.erase(name) ? std::nullopt : std::optional(Errc::no_attribute)));
    } else {
      const auto value = pattern(random() % 3 == 0 ? random() % 20000 : random() % 50, step);
      must(fs->set_xattr(ino, name, value, XattrMode::any));
      model[name] = value;
    }
    if (step % 150 == 149) fs.remount();
  }
  auto names = must(fs->list_xattrs(ino));
  std::sort(names.begin(), names.end());
  std::vector<std::string> expected;
  for (const auto& [name, value] : model) {
    expected.push_back(name);
    CHECK(must(fs->get_xattr(ino, name)) == value);
  }
  CHECK(names == expected);
}

TEST_CASE("create and replace") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  const auto one = bytes_of("1"), two = bytes_of("2");
  CHECK(code_of(fs->set_xattr(ino, "user.a", one, XattrMode::replace)) == Errc::no_attribute);
  CHECK(code_of(fs->set_xattr(ino, "user.a", one, XattrMode::neither)) == Errc::no_attribute);
  must(fs->set_xattr(ino, "user.a", one, XattrMode::create));
  CHECK(code_of(fs->set_xattr(ino, "user.a", two, XattrMode::create)) == Errc::already_exists);
  CHECK(must(fs->get_xattr(ino, "user.a")) == one);
  must(fs->set_xattr(ino, "user.a", two, XattrMode::replace));
  CHECK(must(fs->get_xattr(ino, "user.a")) == two);
  CHECK(code_of(fs->get_xattr(ino, "user.b")) == Errc::no_attribute);
  CHECK(code_of(fs->remove_xattr(ino, "user.b")) == Errc::no_attribute);
  CHECK(code_of(fs->get_xattr(InodeNumber{999}, "user.b")) == Errc::not_found);
}

TEST_CASE("names and namespaces") {
  TestFilesystem fs;
  const InodeNumber file = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  const InodeNumber fifo = test::make(fs, kRootInode, "fifo", S_IFIFO | 0644).ino;
  const auto set = [&](InodeNumber ino, std::string_view name) {
    return code_of(fs->set_xattr(ino, name, bytes_of("x"), XattrMode::any));
  };
  for (const char* name : {"user.a", "trusted.a", "security.a"}) CHECK_FALSE(set(file, name));
  CHECK(set(file, "system.a") == Errc::not_supported);
  CHECK(set(file, "userx") == Errc::not_supported);
  CHECK(set(file, "user.") == Errc::invalid_argument);
  CHECK(set(file, "") == Errc::not_supported);
  CHECK_FALSE(set(file, "user." + std::string(250, 'n')));
  CHECK(set(file, "user." + std::string(251, 'n')) == Errc::result_too_large);
  CHECK(set(fifo, "user.a") == Errc::not_permitted);
  CHECK_FALSE(set(fifo, "trusted.a"));
  CHECK(code_of(fs->get_xattr(fifo, "user.a")) == Errc::no_attribute);
}

TEST_CASE("changes by others take set-id bits and capabilities away") {
  TestFilesystem fs;
  const auto make = [&](const char* name, uint32_t mode) {
    const InodeNumber ino = test::make(fs, kRootInode, name, mode).ino;
    must(fs->set_xattr(ino, kCapabilityName, bytes_of("cap"), XattrMode::any));
    return ino;
  };
  const auto mode_of = [&](InodeNumber ino) { return must(fs->attributes(ino)).mode & 07777; };
  const auto has_capability = [&](InodeNumber ino) {
    return !code_of(fs->get_xattr(ino, kCapabilityName));
  };

  SetAttributes chown;
  chown.uid = 5;
  const InodeNumber owned = make("owned", S_IFREG | 06755);
  must(fs->set_attributes(owned, chown));
  CHECK(mode_of(owned) == 0755);
  CHECK_FALSE(has_capability(owned));
  CHECK(must(fs->attributes(owned)).uid == 5);

  const InodeNumber locking = make("locking", S_IFREG | 06745);  // set-gid without group execute
  must(fs->set_attributes(locking, chown));
  CHECK(mode_of(locking) == 02745);

  chown.kill_suidgid = chown.outside_group = true;  // by who is not in the file's group
  must(fs->set_attributes(locking, chown));
  CHECK(mode_of(locking) == 0745);
  chown.kill_suidgid = chown.outside_group = false;

  const InodeNumber directory = make("directory", S_IFDIR | 06755);
  must(fs->set_attributes(directory, chown));
  CHECK(mode_of(directory) == 06755);

  const InodeNumber written = make("written", S_IFREG | 06755);
  must(fs->write(written, 0, bytes_of("text"), {}));
  CHECK(mode_of(written) == 06755);
  WriteFlags kill;
  kill.kill_suidgid = true;
  must(fs->write(written, 0, bytes_of("text"), kill));
  CHECK(mode_of(written) == 0755);
  CHECK_FALSE(has_capability(written));
  const InodeNumber shared = make("shared", S_IFREG | 06765);
  must(fs->write(shared, 0, bytes_of("text"), kill));
  CHECK(mode_of(shared) == 02765);
  kill.outside_group = true;
  must(fs->write(shared, 0, bytes_of("text"), kill));
  CHECK(mode_of(shared) == 0765);

  const InodeNumber cut = make("cut", S_IFREG | 06755);
  must(fs->write(cut, 0, bytes_of("text"), {}));
  SetAttributes truncate;
  truncate.size = 1;
  truncate.kill_suidgid = true;
  CHECK(must(fs->set_attributes(cut, truncate)).size == 1);
  CHECK(mode_of(cut) == 0755);
  CHECK_FALSE(has_capability(cut));
}

TEST_CASE("damaged attributes give errors") {
  const Key key = xattr_key(InodeNumber{300}, 0x10000);
  CHECK(code_of(decode_xattr(key, {})) == Errc::bad_item);
  XattrOnDisk disk;
  disk.value_length = 3;
  disk.name_length = 2;
  disk.part_count = 1;
  std::vector<std::byte> item(sizeof(disk) + 5);
  const auto decode = [&] {
    std::memcpy(item.data(), &disk, sizeof(disk));
    return code_of(decode_xattr(key, item));
  };
  CHECK_FALSE(decode());
  disk.part_count = 0;
  CHECK(decode() == Errc::bad_item);
  disk.part_count = 2;
  CHECK(decode() == Errc::bad_item);
  disk.part_count = 1;
  disk.name_length = 6;
  CHECK(decode() == Errc::bad_item);
  disk.name_length = 0;
  CHECK(decode() == Errc::bad_item);
  disk.name_length = 2;
  disk.value_length = 2;
  CHECK(decode() == Errc::bad_item);
  disk.value_length = 70000;
  CHECK(decode() == Errc::bad_item);
}

}  // namespace
}  // namespace moltfs::fs
