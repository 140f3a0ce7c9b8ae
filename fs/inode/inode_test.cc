// SPDX-License-Identifier: MIT
// Tests of inode items: what is stored comes back, what cannot be is refused.
#include "fs/inode/inode.h"

#include <sys/stat.h>

#include <cstddef>
#include <cstring>

#include "test/support/catch.h"

namespace moltfs::fs {
namespace {

constexpr InodeNumber kIno{300};

Inode sample() {
  Inode inode;
  inode.ino = kIno;
  inode.size = 123456;
  inode.allocated_bytes = 126976;
  inode.generation = 77;
  inode.mode = S_IFREG | 04755;
  inode.links = 3;
  inode.uid = 1000;
  inode.gid = 0xfffffffe;
  inode.atime = {-5, 999'999'999};
  inode.mtime = {1, 2};
  inode.ctime = {int64_t{1} << 40, 3};
  inode.btime = {4, 5};
  return inode;
}

bool decodes(const InodeOnDisk& disk) {
  auto decoded = decode_inode(kIno, std::as_bytes(std::span(&disk, 1)));
  if (!decoded) CHECK(decoded.error().code == Errc::bad_item);
  return decoded.has_value();
}

TEST_CASE("inodes are decoded as they were encoded") {
  std::vector<Inode> inodes(4, sample());
  inodes[1].mode = S_IFDIR | 0755;
  inodes[1].parent = kRootInode;
  inodes[1].flags = kInodeSettable;
  inodes[2].mode = S_IFBLK | 0600;
  inodes[2].device = uint64_t{8} << 32 | 1;
  inodes[3].mode = S_IFLNK | 0777;
  inodes[3].size = kMaxSymlinkBytes;
  inodes[3].flags = kInodeInline;
  for (const Inode& inode : inodes) {
    const InodeOnDisk disk = encode_inode(inode);
    auto decoded = decode_inode(kIno, std::as_bytes(std::span(&disk, 1)));
    REQUIRE(decoded);
    CHECK(decoded.value() == inode);
  }
}

TEST_CASE("invalid inodes are refused") {
  const InodeOnDisk good = encode_inode(sample());
  REQUIRE(decodes(good));
  const auto refused = [&](auto change) {
    InodeOnDisk disk = good;
    change(disk);
    return !decodes(disk);
  };
  CHECK(refused([](auto& d) { d.mode = 0755; }));
  CHECK(refused([](auto& d) { d.mode = S_IFREG | 0200000; }));
  CHECK(refused([](auto& d) { d.size = uint64_t{1} << 63; }));
  CHECK(refused([](auto& d) { d.allocated_bytes = 100; }));
  CHECK(refused([](auto& d) { d.parent = 1; }));
  CHECK(refused([](auto& d) { d.mode = S_IFDIR | 0755; }));  // without a parent
  CHECK(refused([](auto& d) { d.links = kMaxLinks + 1; }));
  CHECK_FALSE(refused([](auto& d) {
    d.mode = S_IFDIR | 0755;
    d.parent = 1;
    d.flags = 0;
    d.links = kMaxLinks + 1;  // subdirectories there may be more of
  }));
  CHECK(refused([](auto& d) { d.flags = 64; }));
  CHECK(refused([](auto& d) { d.flags = kInodeInline; }));  // too big for that
  CHECK(refused([](auto& d) { d.mtime.nanoseconds = 1'000'000'000; }));
  CHECK(refused([](auto& d) { d.reserved = 1; }));
  const auto bytes = std::as_bytes(std::span(&good, 1));
  CHECK_FALSE(decode_inode(kIno, bytes.first(bytes.size() - 1)));
  CHECK_FALSE(decode_inode(kIno, {}));
}

}  // namespace
}  // namespace moltfs::fs
