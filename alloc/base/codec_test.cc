// SPDX-License-Identifier: MIT
// ByteWriter and ByteReader: round trips, and every truncation is refused.
#include "alloc/base/codec.h"

#include "alloc/base/uuid.h"
#include "test/support/catch.h"

using namespace moltfs;

namespace {

ByteWriter everything() {
  ByteWriter writer;
  writer.u8(0x12);
  writer.u16(0x3456);
  writer.u32(0x789abcde);
  writer.u64(0x0123456789abcdef);
  writer.string("moltfs");
  writer.string("");
  Uuid id;
  id.bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  writer.uuid(id);
  const std::byte three[3] = {};
  writer.blob(three);
  writer.zeros(2);
  return writer;
}

Result<void> read_everything(ConstBytes data) {
  ByteReader reader(data, Errc::bad_superblock);
  TRY(auto a, reader.u8());
  TRY(auto b, reader.u16());
  TRY(auto c, reader.u32());
  TRY(auto d, reader.u64());
  CHECK(a == 0x12);
  CHECK(b == 0x3456);
  CHECK(c == 0x789abcde);
  CHECK(d == 0x0123456789abcdef);
  TRY(auto text, reader.string());
  CHECK(text == "moltfs");
  TRY(auto empty, reader.string());
  CHECK(empty.empty());
  TRY(auto id, reader.uuid());
  CHECK(id.bytes[15] == 16);
  TRY(auto blob, reader.blob());
  CHECK(blob.size() == 3);
  TRY(auto zeros, reader.bytes(2));
  CHECK(zeros[1] == std::byte{0});
  CHECK(reader.at_end());
  return ok();
}

}  // namespace

TEST_CASE("what was written is read") {
  auto writer = everything();
  REQUIRE(read_everything(writer.span()));
  // Little-endian on every machine.
  REQUIRE(writer.span()[1] == std::byte{0x56});
}

TEST_CASE("every truncation gives an error with the reader's code") {
  auto data = everything().take();
  for (size_t length = 0; length < data.size(); ++length) {
    // A copy of exactly that size, so that a sanitizer reports a read past its end.
    std::vector<std::byte> part(data.begin(), data.begin() + static_cast<ptrdiff_t>(length));
    auto result = read_everything(part);
    REQUIRE(!result);
    REQUIRE(result.error() == Errc::bad_superblock);
  }
}

TEST_CASE("a failed read does not move the reader") {
  ByteWriter writer;
  writer.u16(100);  // says 100 bytes, but only one follows
  writer.u8(7);
  ByteReader reader(writer.span());
  REQUIRE(!reader.string());
  REQUIRE(reader.position() == 0);
  REQUIRE(!reader.u32());
  REQUIRE(reader.u16().value() == 100);
  REQUIRE(reader.u8().value() == 7);
  REQUIRE(reader.at_end());
}
