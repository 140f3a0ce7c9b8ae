// SPDX-License-Identifier: MIT
#include "alloc/disk/volume_settings.h"

#include <string>

#include "alloc/disk/superblock.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

TEST_CASE("labels: any bytes but control characters, up to the limit") {
  CHECK(check_label(""));
  CHECK(check_label("größe \xff null"));
  CHECK(check_label(std::string(kMaxLabelBytes, 'x')));
  const auto too_long = check_label(std::string(kMaxLabelBytes + 1, 'x'));
  REQUIRE(!too_long);
  CHECK(too_long.error() == Errc::invalid_argument);
  CHECK(too_long.error().message() == "a label has at most 255 bytes, this one has 256");
  for (const char c : {'\0', '\x01', '\n', '\x1f', '\x7f'}) {
    INFO(int{c});
    const auto refused = check_label(std::string("a") + c);
    REQUIRE(!refused);
    CHECK(refused.error() == Errc::invalid_argument);
  }
}

TEST_CASE("chunk sizes: powers of two within the limits") {
  CHECK(check_chunk_size(kMinChunkSize));
  CHECK(check_chunk_size(kMaxChunkSize));
  for (const uint64_t bytes : {uint64_t{0}, kMinChunkSize / 2, kMinChunkSize + 4096,
                               3 * kMinChunkSize, 2 * kMaxChunkSize, UINT64_MAX}) {
    INFO(bytes);
    CHECK(!is_valid_chunk_size(bytes));
    const auto refused = check_chunk_size(bytes);
    REQUIRE(!refused);
    CHECK(refused.error() == Errc::invalid_argument);
  }
  CHECK(check_chunk_size(3).error().message() ==
        "chunk size 3: it must be a power of two from 1.0 MiB to 1.0 TiB");
}

TEST_CASE("the default chunk size grows with the volume and suits its smallest device") {
  const auto size_for = [](std::vector<uint64_t> sizes) {
    std::vector<DeviceEntry> entries;
    for (uint64_t size : sizes) entries.push_back({DeviceId(1), Uuid(), size, ""});
    return default_chunk_size(entries);
  };
  constexpr uint64_t MiB = 1024 * 1024, GiB = 1024 * MiB, TiB = 1024 * GiB;
  CHECK(size_for({64 * MiB}) == 4 * MiB);
  CHECK(size_for({16 * MiB, 64 * MiB}) == 1 * MiB);
  CHECK(size_for({10 * GiB}) == 16 * MiB);
  CHECK(size_for({16 * TiB}) == 16 * GiB);
  CHECK(size_for({16 * TiB, 64 * MiB}) >= 4 * GiB);
}

}  // namespace
}  // namespace moltfs::alloc
