// SPDX-License-Identifier: MIT
// Tests of orphans: kept while held, removed later or at the next mount, their space given back.
#include "fs/reclaimer.h"

#include <sys/stat.h>

#include <cstring>

#include "fs/inode/orphan_mark.h"
#include "fs/names/names_test_util.h"

namespace moltfs::fs {
namespace {

using test::code_of;
using test::must;
using test::TestFilesystem;

constexpr Caller kRoot{};

void fill(TestFilesystem& fs, InodeNumber ino, uint64_t size) {
  AlignedBuffer buffer(1 << 20);
  std::memset(buffer.data(), 'x', buffer.size());
  for (uint64_t at = 0; at < size; at += buffer.size()) {
    must(fs->write(ino, at, buffer.span(), {}));
  }
}

uint64_t available(TestFilesystem& fs) {
  must(fs->commit());
  must(fs->commit());
  return must(fs->statistics()).available_bytes;
}

TEST_CASE("an unlinked file lives as long as it is held") {
  TestFilesystem fs;
  const uint64_t before = available(fs);
  const InodeNumber ino = must(fs->make(kRootInode, "file", S_IFREG | 0644, 0, kRoot)).ino;
  fill(fs, ino, 32 << 20);
  must(fs->set_xattr(ino, "user.a", test::bytes_of(std::string(60000, 'v')), XattrMode::any));
  CHECK(available(fs) < before - (30 << 20));
  must(fs->unlink(kRootInode, "file"));
  CHECK(fs.count_items(ItemType::orphan) == 1);
  CHECK(must(fs->attributes(ino)).links == 0);
  std::byte byte{};
  CHECK(must(fs->read(ino, 4096, Bytes(&byte, 1))) == 1);
  CHECK(byte == std::byte{'x'});
  CHECK(must(fs->by_number(ino, 0)).ino == ino);
  fs->forget(ino, 1);
  CHECK(must(fs->attributes(ino)).links == 0);

  fs->forget(ino, 1);
  fs.drain();
  CHECK(code_of(fs->attributes(ino)) == Errc::not_found);
  CHECK(code_of(fs->by_number(ino, 0)) == Errc::stale_handle);
  CHECK(fs.count_items(ItemType::orphan) == 0);
  CHECK(fs.count_items(ItemType::extent) == 0);
  CHECK(fs.count_items(ItemType::xattr) == 0);
  CHECK(fs.inode_count() == 1);
  CHECK(available(fs) >= before - (1 << 20));
}

TEST_CASE("orphans left by a crash are removed at the next mount") {
  TestFilesystem fs;
  const uint64_t before = available(fs);
  std::vector<InodeNumber> inos;
  for (unsigned i = 0; i < 20; ++i) {
    const std::string name = "file" + std::to_string(i);
    inos.push_back(must(fs->make(kRootInode, name, S_IFREG | 0644, 0, kRoot)).ino);
    fill(fs, inos.back(), 1 << 20);
    must(fs->unlink(kRootInode, name));
  }
  inos.push_back(must(fs->make(kRootInode, "dir", S_IFDIR | 0755, 0, kRoot)).ino);
  must(fs->remove_directory(kRootInode, "dir"));
  inos.push_back(must(fs->make_unnamed(kRootInode, 0600, kRoot)).ino);
  must(fs->sync());
  CHECK(fs.count_items(ItemType::orphan) == inos.size());
  fs.crash();
  fs.drain();
  for (InodeNumber ino : inos) CHECK(code_of(fs->attributes(ino)) == Errc::not_found);
  CHECK(fs.count_items(ItemType::orphan) == 0);
  CHECK(fs.count_items(ItemType::inode) == 1);
  CHECK(fs.inode_count() == 1);
  CHECK(available(fs) >= before - (1 << 20));
}

TEST_CASE("a file without a name can get one") {
  TestFilesystem fs;
  const InodeNumber ino = must(fs->make_unnamed(kRootInode, 0640, kRoot)).ino;
  CHECK(must(fs->attributes(ino)).mode == (S_IFREG | 0640u));
  must(fs->link(ino, kRootInode, "named"));
  CHECK(fs.count_items(ItemType::orphan) == 0);
  fs->forget(ino, 2);
  fs.remount();
  CHECK(must(fs->lookup(kRootInode, "named")).ino == ino);
  CHECK(must(fs->attributes(ino)).links == 1);

  const InodeNumber lost = must(fs->make_unnamed(kRootInode, 0640, kRoot)).ino;
  fs->forget(lost, 1);
  fs.drain();
  CHECK(code_of(fs->link(lost, kRootInode, "late")) == Errc::not_found);
  CHECK(fs.inode_count() == 2);
}

TEST_CASE("space of removed files serves the next writer at once") {
  TestFilesystem fs(64 << 20);
  for (unsigned round = 0; round < 4; ++round) {
    const InodeNumber ino = must(fs->make(kRootInode, "file", S_IFREG | 0644, 0, kRoot)).ino;
    uint64_t size = 0;
    AlignedBuffer buffer(256 << 10);
    std::memset(buffer.data(), 'y', buffer.size());
    for (;; size += buffer.size()) {
      auto written = fs->write(ino, size, buffer.span(), {});
      if (written) continue;
      CHECK(written.error().code == Errc::no_space);
      break;
    }
    INFO(round);
    CHECK(size >= (20u << 20));
    must(fs->unlink(kRootInode, "file"));
    fs->forget(ino, 1);
  }
}

TEST_CASE("inode numbers reused after a crash have another generation") {
  TestFilesystem fs;
  must(fs->sync());
  const Attributes lost = test::make(fs, kRootInode, "a", S_IFREG | 0644);
  fs.crash();
  const Attributes again = test::make(fs, kRootInode, "b", S_IFREG | 0644);
  CHECK(again.ino == lost.ino);
  CHECK(again.generation != lost.generation);
  CHECK(code_of(fs->by_number(lost.ino, lost.generation)) == Errc::stale_handle);
  CHECK(must(fs->by_number(again.ino, again.generation)).ino == again.ino);
}

TEST_CASE("statistics") {
  TestFilesystem fs;
  const Statistics before = must(fs->statistics());
  CHECK(before.block_bytes == kBlockSize);
  CHECK(before.total_bytes <= 256u << 20);
  CHECK(before.total_bytes >= 240u << 20);
  CHECK(before.available_bytes <= before.free_bytes);
  CHECK(before.free_bytes <= before.total_bytes);
  CHECK(before.free_inode_count > 10000);
  const InodeNumber ino = must(fs->make(kRootInode, "file", S_IFREG | 0644, 0, kRoot)).ino;
  fill(fs, ino, 64 << 20);
  const Statistics after = must(fs->statistics());
  CHECK(before.available_bytes - after.available_bytes >= 60u << 20);
  CHECK(before.available_bytes - after.available_bytes <= 80u << 20);
  CHECK(after.inode_count - after.free_inode_count == 2);
}

TEST_CASE("marks of orphans are checked") {
  const std::byte one{1}, two{2}, three{3};
  const Key key = orphan_key(InodeNumber{300});
  CHECK(must(decode_orphan_mark(key, ConstBytes(&one, 1))) == OrphanKind::remove);
  CHECK(must(decode_orphan_mark(key, ConstBytes(&two, 1))) == OrphanKind::truncate);
  CHECK(code_of(decode_orphan_mark(key, ConstBytes(&three, 1))) == Errc::bad_item);
  CHECK(code_of(decode_orphan_mark(key, {})) == Errc::bad_item);
  CHECK(code_of(decode_orphan_mark(orphan_key(kRootInode), ConstBytes(&one, 1))) == Errc::bad_item);
}

}  // namespace
}  // namespace moltfs::fs
