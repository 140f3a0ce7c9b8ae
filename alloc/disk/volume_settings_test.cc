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

TEST_CASE("default profiles: one device stores data once, several store all twice") {
  CHECK(default_profiles(1).data == Profile::single);
  CHECK(default_profiles(1).metadata == Profile::dup);
  for (const size_t devices : {2, 3, 64}) {
    CHECK(default_profiles(devices).data == Profile::raid1);
    CHECK(default_profiles(devices).metadata == Profile::raid1);
  }
}

TEST_CASE("the weaker of two profiles decides what a volume survives") {
  const auto text = [](Profile data, Profile metadata) {
    return survival_text({data, metadata}, 4);
  };
  CHECK(text(Profile::raid1c3, Profile::raid1c4) == "everything survives the loss of 2 devices");
  CHECK(text(Profile::raid1c4, Profile::raid1c4) == "everything survives the loss of 3 devices");
  CHECK(text(Profile::raid10, Profile::raid1c4) == "everything survives the loss of one device");
  for (const Profile weak : {Profile::single, Profile::dup, Profile::raid0}) {
    CHECK(text(weak, Profile::raid1) == "the volume does not survive the loss of a device");
    CHECK(text(Profile::raid1, weak) == "the volume does not survive the loss of a device");
  }
  CHECK(survival_text({}, 1) == "nothing survives the loss of the device");
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
