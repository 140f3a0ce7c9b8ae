// SPDX-License-Identifier: MIT
// For tests of content: makes, reads and writes files, and checks that file extents, records and
// inodes agree.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "fs/content/extents.h"
#include "fs/filesystem_test_util.h"

namespace moltfs::fs::test {

/// Orphans and access times stay as they are.
class TestFiles : public TestFilesystem {
 public:
  struct Options {
    uint64_t device_bytes = 64 * kMiB;
    alloc::Profile data_profile = alloc::Profile::single;
    uint64_t cache_bytes = 64 * kNodeSize;
  };

  explicit TestFiles(const Options& with) : TestFilesystem(setup_of(with)) {}
  TestFiles() : TestFiles(Options{}) {}

  void reopen() { remount(); }
  InodeNumber make_file(const std::string& name) {
    auto made = filesystem->make(kRootInode, name, 0100644, 0, {});
    REQUIRE(made);
    return made.value().ino;
  }
  uint64_t size_of(InodeNumber ino) { return filesystem->attributes(ino).value().size; }
  uint64_t allocated_of(InodeNumber ino) {
    return filesystem->attributes(ino).value().allocated_bytes;
  }
  std::vector<std::byte> read(InodeNumber ino, uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length);
    const auto got = filesystem->read(ino, offset, bytes);
    REQUIRE(got);
    bytes.resize(got.value());
    return bytes;
  }
  void write(InodeNumber ino, uint64_t offset, ConstBytes bytes) {
    REQUIRE(filesystem->write(ino, offset, bytes, {}));
  }
  Result<void> resize(InodeNumber ino, uint64_t size) {
    SetAttributes set;
    set.size = size;
    TRY(filesystem->set_attributes(ino, set));
    return ok();
  }
  std::vector<Extent> extents_of(InodeNumber ino) {
    return transactions
        ->read([&](Access& access) {
          return extents_in(access, transactions->fs_tree(), ino, 0, kMaxFileBytes, SIZE_MAX);
        })
        .value();
  }

  /// File extents of `files`, all records and the inodes agree; nothing else has records.
  void check_extents(const std::vector<InodeNumber>& files) {
    const Result<uint64_t> in_files = transactions->read([&](Access& a) -> Result<uint64_t> {
      uint64_t total = 0;
      for (InodeNumber ino : files) {
        TRY(auto inode, load_inode(a, transactions->fs_tree(), ino));
        TRY(auto extents, extents_in(a, transactions->fs_tree(), ino, 0, kMaxFileBytes, SIZE_MAX));
        uint64_t bytes = 0;
        for (const Extent& e : extents) {
          TRY(with_record(a, transactions->extent_tree(), ino, e, e.file_offset, e.file_end()));
          const bool in_chunk = volume->mapper().current()->chunk_of(e.range()) != nullptr;
          if (!in_chunk) return Error(Errc::bad_item, "an extent in two chunks or none");
          bytes += e.length;
          const bool below_end = e.file_end() <= round_up(inode.size, kBlockSize);
          if (!e.unwritten && !below_end) return Error(Errc::bad_item, "written beyond the end");
        }
        if (bytes != inode.allocated_bytes) return Error(Errc::bad_item, "allocated bytes");
        if (inode.is_inline() && bytes != 0) return Error(Errc::bad_item, "inline with extents");
        total += bytes;
      }
      return total;
    });
    if (!in_files) FAIL(in_files.error().message());
    const auto in_records = transactions->read([&](Access& access) -> Result<uint64_t> {
      uint64_t total = 0;
      TRY(visit_records(access, transactions->extent_tree(), {LogicalOffset{0}, uint64_t{1} << 62},
                        [&](const ExtentRecord& record) {
                          total += record.length;
                          return true;
                        }));
      return total;
    });
    REQUIRE(in_records);
    REQUIRE(in_records.value() == in_files.value());
    REQUIRE(volume->space().usage().data_used_bytes == in_records.value());
  }

 private:
  static Setup setup_of(const Options& with) {
    Setup setup;
    setup.device_bytes = with.device_bytes;
    setup.data_profile = with.data_profile;
    setup.trees.cache_bytes = with.cache_bytes;
    setup.options.policy.atime = Policy::Atime::never;
    setup.removes_orphans = false;
    return setup;
  }
};

inline std::vector<std::byte> random_bytes(std::mt19937_64& random, size_t count) {
  std::vector<std::byte> bytes(count);
  for (auto& b : bytes) b = static_cast<std::byte>(random() | 1);  // never zero
  return bytes;
}

}  // namespace moltfs::fs::test
