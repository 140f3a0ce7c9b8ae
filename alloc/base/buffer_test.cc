// SPDX-License-Identifier: MIT
#include "alloc/base/buffer.h"

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

TEST_CASE("buffers of all sizes are aligned and writable to the end") {
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

TEST_CASE("an empty buffer has no memory") {
  AlignedBuffer none;
  AlignedBuffer zero(0);
  none.fill_zero();
  CHECK(none.data() == nullptr);
  CHECK(zero.data() == nullptr);
  CHECK(zero.span().empty());
}

TEST_CASE("a move empties the source and frees the old content of the target") {
  AlignedBuffer a(8192), b(4096);
  std::byte* const memory = a.data();
  b = std::move(a);
  CHECK(b.data() == memory);
  CHECK(b.size() == 8192);
  CHECK(a.data() == nullptr);  // NOLINT: this is what is tested
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

TEST_CASE("many buffers need no more memory than their sizes, unused ones little") {
  if (kAddressSanitizer) return;
  constexpr size_t kSize = 16384, kCount = 4096;
  const auto resident_pages = [](std::byte* data) {
    unsigned char pages[kSize / kBlockSize] = {};
    if (mincore(data, kSize, pages) != 0) return size_t{0};  // not mapped
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

TEST_CASE("several threads may use the pool") {
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

}  // namespace
}  // namespace moltfs
