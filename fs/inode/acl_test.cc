// SPDX-License-Identifier: MIT
// Tests of POSIX ACLs: the xattr form, modes, inheritance, by themselves and on files.
#include "fs/inode/acl.h"

#include <sys/stat.h>

#include "alloc/base/codec.h"
#include "fs/names/names_test_util.h"

namespace moltfs::fs {
namespace {

using test::code_of;
using test::must;
using test::TestFilesystem;
using Tag = Acl::Tag;

constexpr uint32_t kNoId = 0xffffffff;

std::vector<std::byte> encode(const std::vector<Acl::Entry>& entries, uint32_t version = 2) {
  ByteWriter writer;
  writer.u32(version);
  for (const Acl::Entry& entry : entries) {
    writer.u16(static_cast<uint16_t>(entry.tag));
    writer.u16(entry.permissions);
    writer.u32(entry.id);
  }
  return writer.take();
}

std::vector<std::byte> minimal(uint16_t user, uint16_t group, uint16_t other) {
  return encode(
      {{Tag::user_obj, user, kNoId}, {Tag::group_obj, group, kNoId}, {Tag::other, other, kNoId}});
}

// u::rwx g::r-x group:1000:rwx m::rwx o::---
const std::vector<Acl::Entry> kShared = {{Tag::user_obj, 7, kNoId},
                                         {Tag::group_obj, 5, kNoId},
                                         {Tag::group, 7, 1000},
                                         {Tag::mask, 7, kNoId},
                                         {Tag::other, 0, kNoId}};

TEST_CASE("bytes that are not an ACL are refused") {
  CHECK(code_of(Acl::parse({})) == Errc::invalid_argument);
  CHECK(code_of(Acl::parse(encode({}, 1))) == Errc::not_supported);
  auto cut = minimal(7, 5, 5);
  cut.pop_back();
  CHECK(code_of(Acl::parse(cut)) == Errc::invalid_argument);

  const Acl::Entry user{Tag::user_obj, 7, kNoId}, group{Tag::group_obj, 5, kNoId},
      other{Tag::other, 5, kNoId}, mask{Tag::mask, 5, kNoId}, named{Tag::user, 5, 77};
  const std::vector<std::vector<Acl::Entry>> wrong = {
      {user, group},                                      // no other
      {group, other},                                     // no owner
      {user, user, group, other},                         // two owners
      {user, group, group, other},                        // two owning groups
      {user, named, group, other},                        // a named user but no mask
      {user, group, mask, mask, other},                   // two masks
      {user, group, named, mask, other},                  // out of order
      {{Tag::user_obj, 8, kNoId}, group, other},          // no such permission
      {user, {Tag::user, 5, kNoId}, group, mask, other},  // no id
      {user, group, other, {static_cast<Tag>(0x40), 5, 5}},
  };
  for (const auto& entries : wrong) {
    CHECK(code_of(Acl::parse(encode(entries))) == Errc::invalid_argument);
  }
  CHECK(Acl::parse(encode({user, named, group, mask, other})));
  CHECK(Acl::parse(encode({user, group, mask, other})));
}

TEST_CASE("an ACL is read as it was set") {
  const auto bytes = encode(kShared);
  const Acl acl = must(Acl::parse(bytes));
  CHECK(acl.entries() == kShared);
  CHECK(acl.encode() == bytes);
  CHECK(acl.is_extended());
  CHECK(must(Acl::parse(encode({}))).empty());
}

TEST_CASE("mode and access ACL agree") {
  Acl acl = must(Acl::parse(encode(kShared)));
  CHECK(acl.mode_bits() == 0770);  // the mask, not the owning group
  acl.set_mode_bits(0641);
  CHECK(acl.entries()[0].permissions == 6);
  CHECK(acl.entries()[1].permissions == 5);
  CHECK(acl.entries()[2].permissions == 7);
  CHECK(acl.entries()[3].permissions == 4);
  CHECK(acl.entries()[4].permissions == 1);

  Acl plain = must(Acl::parse(minimal(6, 4, 4)));
  CHECK_FALSE(plain.is_extended());
  CHECK(plain.mode_bits() == 0644);
}

TEST_CASE("a default ACL sets the mode of new files") {
  // As Linux does it: setfacl -d -m g:1000:rwx,o::- on a directory of mode 0750.
  Acl file = must(Acl::parse(encode(kShared)));
  CHECK(file.inherit(S_IFREG | 0666) == (S_IFREG | 0660));
  CHECK(file.entries()[0].permissions == 6);
  CHECK(file.entries()[1].permissions == 5);
  CHECK(file.entries()[2].permissions == 7);
  CHECK(file.entries()[3].permissions == 6);
  CHECK(file.entries()[4].permissions == 0);

  Acl directory = must(Acl::parse(encode(kShared)));
  CHECK(directory.inherit(S_IFDIR | 02777) == (S_IFDIR | 02770));
  Acl plain = must(Acl::parse(minimal(7, 5, 0)));
  CHECK(plain.inherit(S_IFREG | 0666) == (S_IFREG | 0640));
}

TEST_CASE("files inherit an ACL, and the umask is not applied") {
  TestFilesystem fs;
  const Attributes top = test::make(fs, kRootInode, "top", S_IFDIR | 0750, {1, 2, 022});
  CHECK(top.mode == (S_IFDIR | 0750u));
  must(fs->set_xattr(top.ino, kDefaultAclName, encode(kShared), XattrMode::any));
  CHECK(must(fs->attributes(top.ino)).mode == (S_IFDIR | 0750u));

  const Attributes file = test::make(fs, top.ino, "file", S_IFREG | 0666, {1, 2, 077});
  CHECK(file.mode == (S_IFREG | 0660u));
  const Acl inherited = must(Acl::parse(must(fs->get_xattr(file.ino, kAccessAclName))));
  CHECK(inherited.mode_bits() == 0660);
  CHECK(inherited.entries()[2] == Acl::Entry{Tag::group, 7, 1000});
  CHECK(code_of(fs->get_xattr(file.ino, kDefaultAclName)) == Errc::no_attribute);

  const Attributes below = test::make(fs, top.ino, "below", S_IFDIR | 0777, {1, 2, 077});
  CHECK(below.mode == (S_IFDIR | 0770u));
  CHECK(must(fs->get_xattr(below.ino, kDefaultAclName)) == encode(kShared));
  CHECK(must(fs->list_xattrs(below.ino)).size() == 2);

  const Attributes link = must(fs->symlink(top.ino, "link", "file", {1, 2, 077}));
  CHECK(link.mode == (S_IFLNK | 0777u));
  CHECK(must(fs->list_xattrs(link.ino)).empty());

  // A plain default list limits, and leaves no list behind.
  must(fs->set_xattr(top.ino, kDefaultAclName, minimal(7, 5, 0), XattrMode::any));
  const Attributes plain = test::make(fs, top.ino, "plain", S_IFREG | 0666, {1, 2, 077});
  CHECK(plain.mode == (S_IFREG | 0640u));
  CHECK(must(fs->list_xattrs(plain.ino)).empty());
}

TEST_CASE("setting an ACL sets the mode, and chmod changes the ACL") {
  TestFilesystem fs;
  const InodeNumber ino = test::make(fs, kRootInode, "file", S_IFREG | 04644).ino;
  must(fs->set_xattr(ino, kAccessAclName, encode(kShared), XattrMode::any));
  CHECK(must(fs->attributes(ino)).mode == (S_IFREG | 04770u));

  SetAttributes chmod;
  chmod.mode = 0641;
  CHECK(must(fs->set_attributes(ino, chmod)).mode == (S_IFREG | 0641u));
  Acl acl = must(Acl::parse(must(fs->get_xattr(ino, kAccessAclName))));
  CHECK(acl.mode_bits() == 0641);
  CHECK(acl.entries()[1].permissions == 5);

  // A list that says no more than a mode is not kept.
  must(fs->set_xattr(ino, kAccessAclName, minimal(6, 4, 0), XattrMode::any));
  CHECK(must(fs->attributes(ino)).mode == (S_IFREG | 0640u));
  CHECK(code_of(fs->get_xattr(ino, kAccessAclName)) == Errc::no_attribute);
  must(fs->remove_xattr(ino, kAccessAclName));
  CHECK(fs.count_items(ItemType::xattr) == 0);
}

TEST_CASE("ACLs of symlinks, default ACLs of files, invalid and too long ACLs are refused") {
  TestFilesystem fs;
  const InodeNumber file = test::make(fs, kRootInode, "file", S_IFREG | 0644).ino;
  const Attributes link = must(fs->symlink(kRootInode, "link", "x", {}));
  const auto set = [&](InodeNumber ino, std::string_view name, ConstBytes value) {
    return code_of(fs->set_xattr(ino, name, value, XattrMode::any));
  };
  CHECK(set(file, kDefaultAclName, encode(kShared)) == Errc::access_denied);
  CHECK(set(link.ino, kAccessAclName, encode(kShared)) == Errc::not_supported);
  CHECK(set(file, kAccessAclName, test::bytes_of("rubbish")) == Errc::not_supported);
  std::vector<Acl::Entry> long_list{{Tag::user_obj, 7, kNoId}};
  for (uint32_t id = 0; id < 600; ++id) long_list.push_back({Tag::user, 4, id});
  long_list.push_back({Tag::group_obj, 5, kNoId});
  long_list.push_back({Tag::mask, 7, kNoId});
  long_list.push_back({Tag::other, 0, kNoId});
  CHECK(set(file, kAccessAclName, encode(long_list)) == Errc::no_space);
  CHECK(must(fs->attributes(file)).mode == (S_IFREG | 0644u));
}

}  // namespace
}  // namespace moltfs::fs
