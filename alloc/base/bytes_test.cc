// SPDX-License-Identifier: MIT
#include "alloc/base/bytes.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>
#include <thread>
#include <vector>

#include "alloc/base/sanitizer.h"
#include "test/support/catch.h"

namespace moltfs {
namespace {

ConstBytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_CASE("buffers of all sizes are aligned and wholly writable") {
  for (const size_t size :
       {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{16384}, size_t{100000},
        size_t{1048576}, size_t{1048577}, size_t{1052672}, size_t{1052673}, size_t{5000000}}) {
    for (int round = 0; round < 3; ++round) {
      AlignedBuffer buffer(size);
      CHECK(buffer.size() == size);
      CHECK(is_aligned(buffer.data()));
      std::memset(buffer.data(), 0xab, size);
      buffer.fill_zero();
      CHECK(buffer.span()[size - 1] == std::byte{0});
    }
  }
}

TEST_CASE("an empty buffer holds nothing") {
  AlignedBuffer none;
  AlignedBuffer zero(0);
  none.fill_zero();
  CHECK(none.data() == nullptr);
  CHECK(zero.data() == nullptr);
  CHECK(zero.span().empty());
}

TEST_CASE("moving a buffer leaves the old one empty and frees what was there") {
  AlignedBuffer a(8192), b(4096);
  std::byte* const memory = a.data();
  b = std::move(a);
  CHECK(b.data() == memory);
  CHECK(b.size() == 8192);
  CHECK(a.data() == nullptr);  // NOLINT: that is the point
  CHECK(a.size() == 0);
  AlignedBuffer& alias = b;
  b = std::move(alias);
  CHECK(b.data() == memory);
  AlignedBuffer c(std::move(b));
  CHECK(c.data() == memory);
  CHECK(b.data() == nullptr);  // NOLINT
}

TEST_CASE("buffers that live at the same time do not overlap") {
  std::vector<AlignedBuffer> buffers;
  for (int round = 0; round < 2; ++round) {
    for (unsigned i = 0; i < 500; ++i) {
      buffers.emplace_back(size_t{1} << (i % 15));
      std::memset(buffers.back().data(), static_cast<int>(i % 251), buffers.back().size());
    }
    for (unsigned i = 0; i < 500; ++i) {
      const auto expected = static_cast<std::byte>(i % 251);
      CHECK(buffers[i].span().front() == expected);
      CHECK(buffers[i].span().back() == expected);
    }
    buffers.clear();
  }
}

TEST_CASE("many buffers take no more memory than their sizes, unused ones little") {
  if (kAddressSanitizer) return;
  constexpr size_t kSize = 16384, kCount = 4096;
  const auto resident_pages = [](std::byte* data) {
    unsigned char pages[kSize / kBlockSize] = {};
    if (mincore(data, kSize, pages) != 0) return size_t{0};  // not even mapped
    return static_cast<size_t>(std::count_if(pages, std::end(pages), [](int p) { return p & 1; }));
  };
  std::vector<AlignedBuffer> buffers;
  std::vector<std::byte*> places;
  for (size_t i = 0; i < kCount; ++i) {
    buffers.emplace_back(kSize).fill_zero();
    places.push_back(buffers.back().data());
  }
  std::sort(places.begin(), places.end());
  size_t neighbours = 0, resident = 0;
  for (size_t i = 1; i < kCount; ++i) neighbours += places[i] == places[i - 1] + kSize;
  CHECK(neighbours > kCount * 9 / 10);
  buffers.clear();
  for (std::byte* place : places) resident += resident_pages(place);
  CHECK(resident * kBlockSize <= size_t{32} << 20);
}

TEST_CASE("the pool serves several threads") {
  std::vector<std::thread> threads;
  std::atomic<unsigned> bad{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([t, &bad] {
      const auto mark = static_cast<std::byte>(t + 1);
      for (unsigned i = 0; i < 5000; ++i) {
        AlignedBuffer a(4096u << (i % 4)), b(1052672);
        for (AlignedBuffer* buffer : {&a, &b}) buffer->span().front() = mark;
        for (AlignedBuffer* buffer : {&a, &b}) bad += buffer->span().front() != mark;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(bad == 0);
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

TEST_CASE("uuids") {
  RealRuntime runtime;
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const Uuid uuid = Uuid::generate(runtime);
    CHECK_FALSE(uuid.is_nil());
    const std::string text = uuid.to_string();
    REQUIRE(text.size() == 36);
    CHECK(text[14] == '4');
    CHECK(std::string("89ab").find(text[19]) != std::string::npos);
    CHECK(Uuid::parse(text) == uuid);
    CHECK(seen.insert(text).second);
  }
  const auto upper = Uuid::parse("01234567-89AB-CDEF-0123-456789ABCDEF");
  REQUIRE(upper);
  CHECK(upper->to_string() == "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(Uuid{}.is_nil());
  CHECK(Uuid{}.to_string() == "00000000-0000-0000-0000-000000000000");
  for (const char* wrong :
       {"", "0", "01234567-89ab-cdef-0123-456789abcde", "01234567-89ab-cdef-0123-456789abcdef0",
        "01234567089ab-cdef-0123-456789abcdef", "0123456g-89ab-cdef-0123-456789abcdef"}) {
    CHECK_FALSE(Uuid::parse(wrong));
  }
}

TEST_CASE("sizes for people") {
  CHECK(human_size(0) == "0 B");
  CHECK(human_size(512) == "512 B");
  CHECK(human_size(1023) == "1023 B");
  CHECK(human_size(1024) == "1.0 KiB");
  CHECK(human_size(uint64_t{4} << 30) == "4.0 GiB");
  CHECK(human_size((uint64_t{1} << 20) - 1) == "1.0 MiB");
  CHECK(human_size(UINT64_MAX) == "16.0 EiB");
}

TEST_CASE("sizes from people") {
  CHECK(parse_size("4096") == 4096);
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("512B") == 512);
  CHECK(parse_size("64M") == uint64_t{64} << 20);
  CHECK(parse_size("64m") == uint64_t{64} << 20);
  CHECK(parse_size("64MB") == uint64_t{64} << 20);
  CHECK(parse_size("1.5GiB") == uint64_t{3} << 29);
  CHECK(parse_size("0.5k") == 512);
  CHECK(parse_size("16T") == uint64_t{16} << 40);
  CHECK(parse_size("15E") == uint64_t{15} << 60);
  CHECK(parse_size("18446744073709551615") == UINT64_MAX);
  for (const char* wrong : {"",
                            "M",
                            "-1",
                            "+1",
                            " 1",
                            "1 ",
                            "1 M",
                            "1.",
                            "1.M",
                            ".5M",
                            "1.5",
                            "1.5B",
                            "1X",
                            "1BB",
                            "1iB",
                            "1MiX",
                            "1MM",
                            "16E",
                            "18446744073709551616",
                            "99999999999999999999999999999",
                            "0x10",
                            "1e3"}) {
    INFO(wrong);
    CHECK_FALSE(parse_size(wrong));
  }
}

}  // namespace
}  // namespace moltfs
