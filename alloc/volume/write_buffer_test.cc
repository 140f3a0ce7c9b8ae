// SPDX-License-Identifier: MIT
// WriteBuffer: what is read from memory, what is taken, what is displaced (D2).
#include "alloc/volume/write_buffer.h"

#include <random>

#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;

namespace {

constexpr uint64_t kOwner = 7;

AlignedBuffer blocks(uint64_t count, uint8_t value) {
  AlignedBuffer filled(count * kBlockSize);
  std::fill(filled.data(), filled.data() + filled.size(), std::byte{value});
  return filled;
}

LogicalOffset block(uint64_t number) {
  return LogicalOffset(number * kBlockSize);
}

bool all(ConstBytes bytes, uint8_t value) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [&](std::byte b) { return b == std::byte{value}; });
}

}  // namespace

TEST_CASE("buffered bytes are read from memory, the rest is left to the devices") {
  RealRuntime runtime;
  WriteBuffer buffer(runtime);
  REQUIRE(buffer.empty());
  REQUIRE(buffer.add(block(10), blocks(2, 1).span(), kOwner));
  REQUIRE(buffer.add(block(13), blocks(1, 2).span(), kOwner));
  REQUIRE(!buffer.empty());

  AlignedBuffer into = blocks(6, 99);
  const auto rest = buffer.read(block(9), into.span());
  REQUIRE(rest.size() == 3);
  REQUIRE(rest[0].at == block(9));
  REQUIRE(rest[0].into.data() == into.data());
  REQUIRE(rest[1].at == block(12));
  REQUIRE(rest[1].into.size() == kBlockSize);
  REQUIRE(rest[2].at == block(14));
  REQUIRE(rest[2].into.data() + rest[2].into.size() == into.data() + into.size());
  REQUIRE(all(into.span().subspan(kBlockSize, 2 * kBlockSize), 1));
  REQUIRE(all(into.span().subspan(4 * kBlockSize, kBlockSize), 2));

  AlignedBuffer one = blocks(1, 99);
  REQUIRE(buffer.read(block(11), one.span()).empty());
  REQUIRE(all(one.span(), 1));
  REQUIRE(buffer.read(block(12), one.span()).size() == 1);
}

TEST_CASE("a batch is read from memory until it is done") {
  RealRuntime runtime;
  WriteBuffer buffer(runtime);
  REQUIRE(!buffer.take());
  REQUIRE(buffer.add(block(5), blocks(1, 1).span(), kOwner));
  REQUIRE(buffer.add(block(3), blocks(1, 2).span(), 8));
  const auto batch = buffer.take();
  REQUIRE(batch);
  REQUIRE(!buffer.take());
  REQUIRE(batch->writes.size() == 2);
  REQUIRE(batch->writes[0].at == block(3));
  REQUIRE(batch->writes[0].owner == 8);
  REQUIRE(all(batch->writes[1].bytes, 1));
  AlignedBuffer one = blocks(1, 99);
  REQUIRE(buffer.read(block(5), one.span()).empty());
  // Later writes go into the next batch.
  REQUIRE(buffer.add(block(6), blocks(1, 3).span(), kOwner));
  buffer.done(*batch);
  REQUIRE(buffer.read(block(5), one.span()).size() == 1);
  REQUIRE(buffer.read(block(6), one.span()).empty());
}

TEST_CASE("a full batch takes no more") {
  RealRuntime runtime;
  WriteBuffer buffer(runtime);
  const uint64_t each = WriteBuffer::kMaxWriteBytes / kBlockSize;
  uint64_t at = 0;
  while (buffer.add(block(at), blocks(each, 1).span(), kOwner)) at += each;
  REQUIRE(at * kBlockSize == WriteBuffer::kBatchBytes);
  const auto batch = buffer.take();
  REQUIRE(batch->writes.size() == at / each);
  REQUIRE(buffer.add(block(at), blocks(1, 1).span(), kOwner));
  buffer.done(*batch);
}

TEST_CASE("D2: buffered writes are dropped when their place gets a new owner") {
  RealRuntime runtime;
  WriteBuffer buffer(runtime);
  REQUIRE(buffer.add(block(10), blocks(8, 1).span(), kOwner));
  buffer.displace({block(12), 2 * kBlockSize});
  REQUIRE(buffer.add(block(12), blocks(1, 2).span(), 8));
  const auto batch = buffer.take();
  REQUIRE(batch->writes.size() == 3);
  REQUIRE(batch->writes[0].at == block(10));
  REQUIRE(batch->writes[0].bytes.size() == 2 * kBlockSize);
  REQUIRE(batch->writes[1].at == block(12));
  REQUIRE(all(batch->writes[1].bytes, 2));
  REQUIRE(batch->writes[2].at == block(14));
  REQUIRE(batch->writes[2].bytes.size() == 4 * kBlockSize);
  buffer.done(*batch);
  REQUIRE(buffer.empty());
}

TEST_CASE("D2: displace and wait_for_taken wait for a batch that is being written") {
  alloc::test::ScriptedRuntime runtime;
  WriteBuffer buffer(runtime);
  REQUIRE(buffer.add(block(10), blocks(4, 1).span(), kOwner));
  const auto batch = buffer.take();
  buffer.displace({block(14), kBlockSize});  // outside: does not wait
  int waits = 0;
  runtime.on_wait = [&] {
    ++waits;
    if (waits == 1) {
      // A wake for nothing, and a write that comes later: both do not end the waiting.
      REQUIRE(buffer.add(block(20), blocks(1, 2).span(), kOwner));
    } else {
      buffer.done(*batch);
    }
  };
  SECTION("displace") {
    buffer.displace({block(13), kBlockSize});
  }
  SECTION("wait_for_taken") {
    buffer.wait_for_taken();  // the later write is not taken
  }
  REQUIRE(waits == 2);
  AlignedBuffer one = blocks(1, 99);
  REQUIRE(buffer.read(block(20), one.span()).empty());
}

TEST_CASE("random adds, displacements, batches and reads agree with a model") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    RealRuntime runtime;
    WriteBuffer buffer(runtime);
    constexpr uint64_t kBlocks = 64;
    std::vector<uint8_t> content(kBlocks, 0), device(kBlocks, 0);
    uint8_t value = 0;
    std::optional<WriteBuffer::Batch> taken;
    for (int step = 0; step < 200; ++step) {
      const uint64_t first = random() % kBlocks;
      const uint64_t count = 1 + random() % std::min<uint64_t>(8, kBlocks - first);
      const auto finish = [&] {
        for (const auto& write : taken->writes) {
          for (uint64_t i = 0; i < write.bytes.size() / kBlockSize; ++i) {
            device[write.at.value / kBlockSize + i] =
                static_cast<uint8_t>(write.bytes[i * kBlockSize]);
          }
        }
        buffer.done(*taken);
        taken.reset();
      };
      switch (random() % 4) {
        case 0: {  // a place gets new content
          if (taken) finish();
          ++value;
          buffer.displace({block(first), count * kBlockSize});
          if (!buffer.add(block(first), blocks(count, value).span(), kOwner)) {
            taken = buffer.take();
            finish();
            REQUIRE(buffer.add(block(first), blocks(count, value).span(), kOwner));
          }
          std::fill_n(content.begin() + static_cast<long>(first), count, value);
          break;
        }
        case 1:
          if (!taken) taken = buffer.take();
          break;
        case 2:
          if (taken) finish();
          break;
        default: {
          AlignedBuffer into = blocks(count, 255);
          for (const auto& part : buffer.read(block(first), into.span())) {
            for (uint64_t i = 0; i < part.into.size() / kBlockSize; ++i) {
              part.into[i * kBlockSize] = std::byte{device[part.at.value / kBlockSize + i]};
            }
          }
          for (uint64_t i = 0; i < count; ++i) {
            REQUIRE(static_cast<uint8_t>(into.data()[i * kBlockSize]) == content[first + i]);
          }
        }
      }
    }
    if (taken) buffer.done(*taken);
  }
}
