// SPDX-License-Identifier: MIT
#include "alloc/base/checksum.h"

#include "test/support/catch.h"

namespace moltfs {
namespace {

ConstBytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_CASE("checksums are XXH3-64") {
  CHECK(checksum_of({}) == 0x2d06800538d394c2);  // test vector of the algorithm
  CHECK(hash_of("", 0) == checksum_of({}));
  CHECK(hash_of("name", 0) == checksum_of(bytes_of("name")));
  CHECK(hash_of("name", 1) != hash_of("name", 2));
  AlignedBuffer block(4096);
  block.fill_zero();
  const uint64_t before = checksum_of(block.span());
  block.span()[4095] = std::byte{1};
  CHECK(checksum_of(block.span()) != before);
}

}  // namespace
}  // namespace moltfs
