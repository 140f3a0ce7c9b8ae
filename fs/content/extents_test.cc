// SPDX-License-Identifier: MIT
// Decoding of extent items: every field is checked; slices keep their share of the checksums.
#include "fs/content/extents.h"

#include <cstring>

#include "alloc/base/codec.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;

namespace {

std::vector<std::byte> record_bytes(const ExtentRecordOnDisk& disk, size_t checksums) {
  ByteWriter writer;
  writer.object(disk);
  for (size_t i = 0; i < checksums; ++i) writer.u64(100 + i);
  return writer.take();
}

ExtentRecordOnDisk good_record() {
  ExtentRecordOnDisk disk{};
  disk.birth = 5;
  disk.inode = 300;
  disk.file_offset = 8192;
  disk.length = 3 * 4096;
  return disk;
}

}  // namespace

TEST_CASE("valid records are decoded, others refused") {
  const Key key = record_key(LogicalOffset{1 << 20});
  const auto good = record_bytes(good_record(), 3);
  const auto record = decode_record({key, good});
  REQUIRE(record);
  CHECK(record.value().start == LogicalOffset{1 << 20});
  CHECK(record.value().length == 3 * 4096);
  CHECK(record.value().birth == Generation{5});
  CHECK(record.value().inode == InodeNumber{300});
  CHECK(record.value().file_offset == 8192);
  CHECK(record.value().checksum(2) == 102);

  const auto refuses = [&](auto change, size_t checksums = 3) {
    ExtentRecordOnDisk disk = good_record();
    change(disk);
    const auto bytes = record_bytes(disk, checksums);
    const auto result = decode_record({key, bytes});
    return !result && result.error() == Errc::bad_item;
  };
  CHECK(refuses([](auto& d) { d.birth = 0; }));
  CHECK(refuses([](auto& d) { d.inode = 0; }));
  CHECK(refuses([](auto& d) { d.file_offset = 8191; }));
  CHECK(refuses([](auto& d) { d.file_offset = uint64_t{1} << 63; }));
  CHECK(refuses([](auto& d) { d.length = 0; }, 0));
  CHECK(refuses([](auto& d) { d.length = 4097; }, 1));
  CHECK(refuses([](auto& d) { d.length = kMaxExtentBytes + 4096; }, 257));
  CHECK(refuses([](auto& d) { d.flags = 2; }));
  CHECK(refuses([](auto& d) { d.flags = kExtentUnwritten; }));
  CHECK(refuses([](auto&) {}, 2));
  CHECK(refuses([](auto&) {}, 4));
  CHECK_FALSE(refuses([](auto& d) { d.flags = kExtentUnwritten; }, 0));
  CHECK_FALSE(decode_record({record_key(LogicalOffset{77}), good}));
  for (size_t length = 0; length < good.size(); ++length) {
    CHECK_FALSE(decode_record({key, ConstBytes(good).first(length)}));
  }
}

TEST_CASE("valid file extents are decoded, others refused") {
  const auto decode = [](uint64_t file_offset, uint64_t logical, uint32_t length, uint32_t flags) {
    FileExtentOnDisk disk;
    disk.logical = logical;
    disk.length = length;
    disk.flags = flags;
    return decode_file_extent(
        {extent_key(InodeNumber{300}, file_offset), std::as_bytes(std::span(&disk, 1))});
  };
  const auto extent = decode(4096, 1 << 20, 8192, kExtentUnwritten);
  REQUIRE(extent);
  CHECK(extent.value().unwritten);
  CHECK(extent.value().file_end() == 12'288);
  CHECK_FALSE(decode(1, 1 << 20, 8192, 0));
  CHECK_FALSE(decode(uint64_t{1} << 63, 1 << 20, 8192, 0));
  CHECK_FALSE(decode(0, alloc::kMaxLogical, 8192, 0));
  CHECK(decode(0, alloc::kMaxLogical - 8192, 8192, 0));
  CHECK_FALSE(decode(0, 1, 8192, 0));
  CHECK_FALSE(decode(0, uint64_t{1} << 63, 8192, 0));
  CHECK_FALSE(decode(0, 0, 0, 0));
  CHECK_FALSE(decode(0, 0, 100, 0));
  CHECK_FALSE(decode(0, 0, kMaxExtentBytes + 4096, 0));
  CHECK_FALSE(decode(0, 0, 4096, 2));
  const std::vector<std::byte> short_item(15);
  CHECK_FALSE(decode_file_extent({extent_key(InodeNumber{300}, 0), short_item}));
}

TEST_CASE("slices") {
  Extent extent;
  extent.file_offset = 8192;
  extent.logical = LogicalOffset{1 << 20};
  extent.length = 4 * 4096;
  extent.birth = Generation{3};
  extent.checksums = {10, 11, 12, 13};
  const Extent part = extent.slice(12'288, 20'480);
  CHECK(part.file_offset == 12'288);
  CHECK(part.logical == LogicalOffset{(1 << 20) + 4096});
  CHECK(part.length == 8192);
  CHECK(part.birth == Generation{3});
  CHECK(part.checksums == std::vector<uint64_t>{11, 12});
  CHECK(extent.slice(0, 1 << 30).checksums == extent.checksums);
}
