// SPDX-License-Identifier: MIT
#include "alloc/base/load.h"

#include <array>
#include <cstdint>

#include "test/support/catch.h"

namespace moltfs {
namespace {

struct Pair {
  uint32_t a = 0, b = 0;
  bool operator==(const Pair&) const = default;
};

TEST_CASE("a struct is stored and loaded at any offset") {
  std::array<std::byte, 19> bytes{};
  const Pair pair{1, 0xFFFFFFFF};
  for (size_t offset : {size_t{0}, size_t{3}, bytes.size() - sizeof(Pair)}) {
    store(bytes, pair, offset);
    CHECK(load<Pair>(bytes, offset) == pair);
  }
  CHECK(load_exactly<Pair>(object_bytes(pair)) == pair);
}

TEST_CASE("nothing is loaded from outside the bytes") {
  const std::array<std::byte, 12> bytes{};
  const ConstBytes all(bytes);
  CHECK(load<Pair>(all, 4));
  CHECK(!load<Pair>(all, 5));
  CHECK(!load<Pair>(all, 12));
  CHECK(!load<Pair>(all, 13));
  CHECK(!load<Pair>(all, SIZE_MAX));
  CHECK(!load<Pair>(ConstBytes()));
  CHECK(load_exactly<Pair>(all.first(8)));
  CHECK(!load_exactly<Pair>(all.first(7)));
  CHECK(!load_exactly<Pair>(all.first(9)));
}

}  // namespace
}  // namespace moltfs
