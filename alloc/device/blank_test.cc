// SPDX-License-Identifier: MIT
// What counts as blank, on sparse files.
#include "alloc/device/blank.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "test/support/catch.h"
#include "test/support/values.h"

using namespace moltfs;
using namespace moltfs::alloc;

namespace {

using test::kGiB;
using test::kMiB;

/// A sparse file without a name.
class SparseFile {
 public:
  explicit SparseFile(uint64_t size) : size_(size) {
    char path[] = "/tmp/moltfs-blank.XXXXXX";
    fd_ = mkstemp(path);
    REQUIRE(fd_ >= 0);
    unlink(path);
    REQUIRE(ftruncate(fd_, static_cast<off_t>(size)) == 0);
  }
  ~SparseFile() { close(fd_); }
  void write(uint64_t at, char byte) {
    REQUIRE(pwrite(fd_, &byte, 1, static_cast<off_t>(at)) == 1);
  }
  std::optional<uint64_t> data() const { return find_data(fd_, size_).value(); }

 private:
  uint64_t size_;
  int fd_ = -1;
};

bool is_sampled(uint64_t size, uint64_t at) {
  for (const ByteRange& range : sampled_ranges(size)) {
    if (range.start <= at && at < range.end) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a hole and zeros are blank; one byte anywhere in a small file is data") {
  SparseFile file(70 * kMiB);
  CHECK_FALSE(file.data());
  file.write(5 * kMiB + 7, 0);
  CHECK_FALSE(file.data());
  file.write(33 * kMiB + 123, 'x');
  CHECK(file.data() == 33 * kMiB + 123);
}

TEST_CASE("a byte anywhere in a large sparse file is data") {
  for (const uint64_t at : {uint64_t{0}, kGiB + 12345, 700 * kGiB + 1, 1000 * kGiB - 1}) {
    SparseFile file(1000 * kGiB);
    file.write(at, 'x');
    INFO(at);
    CHECK(file.data() == at);
  }
}

TEST_CASE("a device of up to 256 MiB is read whole") {
  CHECK(sampled_ranges(256 * kMiB) == std::vector<ByteRange>{{0, 256 * kMiB}});
  CHECK(sampled_ranges(0).empty());
  CHECK(sampled_ranges(257 * kMiB).size() > 1);
}

TEST_CASE("the places of superblocks and of their copies are sampled on a device of any size") {
  for (const uint64_t size : {257 * kMiB, kGiB, 300 * kGiB, 20'000 * kGiB}) {
    INFO(size);
    // Signatures and labels at the front: GPT, LVM, ext, btrfs, our own, the second LUKS2 header.
    for (const uint64_t at : {uint64_t{0}, uint64_t{512}, uint64_t{1080}, 64 * uint64_t{1024},
                              4 * kMiB, uint64_t{16} * kMiB - 1}) {
      CHECK(is_sampled(size, at));
    }
    // At the end: RAID members, ZFS labels, the backup of a GPT.
    for (const uint64_t back :
         {uint64_t{1}, 64 * uint64_t{1024}, 512 * uint64_t{1024}, 16 * kMiB}) {
      CHECK(is_sampled(size, size - back));
    }
    // Copies: btrfs at 64 MiB and 256 GiB, ext at 128 MiB x 1, 3, 5, 7, 9, 25, XFS at a quarter.
    for (const uint64_t at : {64 * kMiB, 256 * kGiB, 128 * kMiB, 3 * 128 * kMiB, 9 * 128 * kMiB,
                              25 * 128 * kMiB, size / 4, size / 2}) {
      if (at < size) CHECK(is_sampled(size, at));
    }
    uint64_t sum = 0;
    for (const ByteRange& range : sampled_ranges(size)) {
      CHECK(range.start % kBlockSize == 0);
      sum += range.end - range.start;
    }
    CHECK(sum <= 256 * kMiB);
    // No gap is longer than a thousandth of the device.
    uint64_t end = 0;
    for (const ByteRange& range : sampled_ranges(size)) {
      CHECK(range.start - end <= size / 1000);
      end = range.end;
    }
    CHECK(end == size);
  }
}

TEST_CASE("what cannot be read is an error") {
  const int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
  REQUIRE(fd >= 0);
  CHECK(find_data(fd, 4096).error() == Errc::io_error);
  close(fd);
}
