// SPDX-License-Identifier: MIT
// What the batches of the fsync log say: there and back, and garbage.
#include "fs/tree/log_content.h"

#include <random>

#include "fs/tree/tree_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

LogContent sample() {
  LogContent content;
  content.counters = {300, 7, 77};
  content.items.push_back({{TreeId::fs, test_key(1)}, bytes_of("one")});
  content.items.push_back({{TreeId::fs, test_key(2)}, std::nullopt});
  content.items.push_back(
      {{TreeId::extent, test_key(3)}, bytes_of(std::string(kMaxItemBytes, 'z'))});
  content.items.push_back({{TreeId::extent, test_key(4)}, bytes_of("")});
  return content;
}

}  // namespace

TEST_CASE("a batch is decoded as it was encoded") {
  const LogContent content = sample();
  const auto bytes = encode(content);
  auto decoded = decode_log_content(bytes);
  REQUIRE(decoded);
  CHECK(decoded.value().counters == content.counters);
  REQUIRE(decoded.value().items.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(decoded.value().items[i].id == content.items[i].id);
    CHECK(decoded.value().items[i].value == content.items[i].value);
  }
  CHECK(decode_log_content(encode(LogContent{})));
}

TEST_CASE("a batch that is cut, or has extra bytes, is refused") {
  auto bytes = encode(sample());
  for (size_t length = 0; length < bytes.size(); ++length) {
    REQUIRE_FALSE(decode_log_content(ConstBytes(bytes).first(length)));
  }
  bytes.push_back(std::byte{0});
  CHECK_FALSE(decode_log_content(bytes));
}

TEST_CASE("invalid items are refused") {
  const auto refused = [](const std::function<void(LogContent&)>& spoil) {
    LogContent content = sample();
    spoil(content);
    return !decode_log_content(encode(content));
  };
  CHECK_FALSE(refused([](LogContent&) {}));
  CHECK(refused([](LogContent& r) { r.items[0].id.tree = static_cast<TreeId>(3); }));
  CHECK(refused([](LogContent& r) { r.items[0].id.tree = static_cast<TreeId>(0); }));
  CHECK(refused([](LogContent& r) { r.items[1].id.key = Key::max(); }));
  CHECK_FALSE(refused([](LogContent& r) { r.counters.next_inode = kInodeNumbersEnd; }));
  CHECK(refused([](LogContent& r) { r.counters.next_inode = kInodeNumbersEnd + 1; }));
  CHECK(refused([](LogContent& r) { r.counters.next_inode = ~uint64_t{0}; }));
  CHECK(refused([](LogContent& r) { r.counters.inode_count = ~uint64_t{0}; }));
  auto bytes = encode(sample());
  bytes[24 + 4 + 1] = std::byte{3};  // what is to be done with the first item
  CHECK_FALSE(decode_log_content(bytes));
}

TEST_CASE("random bytes and random changes never crash the decoder") {
  std::mt19937 random(3);
  const auto good = encode(sample());
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> bytes = good;
    if (round % 2 == 0) {
      bytes.resize(random() % 200);
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    } else {
      for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    auto decoded = decode_log_content(bytes);
    if (!decoded) continue;
    for (const LogContent::Item& item : decoded.value().items) {
      REQUIRE(item.id.key != Key::max());
      REQUIRE((!item.value || item.value->size() <= kMaxItemBytes));
    }
  }
}

TEST_CASE("changed keys are kept once each, up to a bound") {
  ChangedKeys keys;
  for (int round = 0; round < 10; ++round) {
    for (uint64_t n = 0; n < 2000; ++n) keys.note({TreeId::fs, test_key(n)});
  }
  REQUIRE_FALSE(keys.overflowed());
  REQUIRE(keys.sorted().size() == 2000);
  CHECK(std::is_sorted(keys.sorted().begin(), keys.sorted().end()));
  keys.clear();
  CHECK(keys.sorted().empty());
  for (uint64_t n = 0; n < 3 * ChangedKeys::kMaxKeys; ++n) keys.note({TreeId::extent, test_key(n)});
  CHECK(keys.overflowed());
}
